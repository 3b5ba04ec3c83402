"""Two servers of one database, as commands: one key's dollar, whoever of its clients asks which of them."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from rlm.serving.state.database import Database
from rlm.serving.types import Grant
from tests.helpers.model_server import ModelServer, Step
from tests.helpers.places import ROOT
from tests.helpers.postgres import Cluster

CLIENTS, PATIENCE_S = 64, 600
PRICES = """[priced]
model = "openai/test-model"
usd_per_million = [60, 60]
window = 32000
"""
#: What the model bills of each call: less than was counted, as a provider that reports more is outside of any cap.
USED = {"prompt_tokens": 300, "completion_tokens": 50, "total_tokens": 350}
BILLED = 350 * 60 / 1e6
SAID = Step('```repl\nFINAL("Two.")\n```', usage=USED)


@contextmanager
def command(
    folder: Path, url: str, name: str, model: ModelServer
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`rlm serve` as a process of its own, and its address."""
    words = [*(sys.executable, "-P", "-m", "rlm.cli", "serve", "toy=boats.txt", "--port", "0", "--db", url)]
    words += ["--data", name, "--model", "priced", "--models", "models.toml", "--reply-tokens", "200"]
    environment = {
        "PYTHONPATH": str(ROOT),
        "HOME": str(folder),
        "OPENAI_BASE_URL": model.base_url,
        "OPENAI_API_KEY": "none",
    }
    with subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment) as server:
        assert server.stderr
        try:
            told = server.stderr.readline()
            assert told.startswith("serving toy at "), told + server.stderr.read()
            drained = ThreadPoolExecutor(1).submit(server.stderr.read)  # or its log would fill the pipe
            yield server, told.split()[-1]
        finally:
            server.kill()
            drained.result()


@pytest.mark.slow
def test_two_servers_spend_a_keys_dollar_and_no_more_and_a_killed_one_leaves_nothing(
    tmp_path: Path, postgres: Cluster, warm: None
) -> None:
    url = postgres.emptied()
    (tmp_path / "boats.txt").write_text("The ketch has two masts. The sloop has one mast.")
    (tmp_path / "models.toml").write_text(PRICES)
    database = Database(url)
    _, secret = database.add_key(Grant(name="one", usd_per_day=1.0, is_admin=False))
    headers, question = {"Authorization": f"Bearer {secret}"}, "How many masts has a ketch?"
    with ModelServer([SAID]) as model, command(tmp_path, url, "a", model) as (first, one):
        with command(tmp_path, url, "b", model) as (_, other):

            def asks(client: int) -> tuple[int, str]:
                asked = {"model": "toy", "messages": [{"role": "user", "content": f"{question} ({client})"}]}
                address = f"{(one, other)[client % 2]}v1/chat/completions"
                reply = httpx.post(address, json=asked, headers=headers, timeout=PATIENCE_S)
                return reply.status_code, reply.text[:300]

            with ThreadPoolExecutor(CLIENTS) as clients:
                answers = list(clients.map(asks, range(CLIENTS)))
            assert [answer for answer in answers if answer[0] not in (200, 402)] == []
            (key,) = database.list_keys()
            assert model.calls * BILLED <= 1.0
            assert key.spent_usd == pytest.approx(model.calls * BILLED) and key.spent_usd > 0.5
            assert key.reserved_usd == 0

            model._script = lambda body: Step(SAID.text, usage=USED, delay_s=PATIENCE_S)
            before = model.calls
            _, secret = database.add_key(Grant(name="killed", usd_per_day=1.0, is_admin=False))
            headers = {"Authorization": f"Bearer {secret}"}
            with ThreadPoolExecutor(1) as clients:
                asking = clients.submit(asks, 0)
                while model.calls == before:
                    assert not asking.done(), asking.result()
                    time.sleep(0.05)
                first.send_signal(signal.SIGKILL)
                assert isinstance(asking.exception(), httpx.HTTPError)
        later = Database(url, clock=lambda: time.time() + 61)
        killed = next(key for key in later.list_keys() if key.grant.name == "killed")
        assert killed.reserved_usd == 0 and killed.spent_usd >= BILLED
        later.close()
    database.close()
