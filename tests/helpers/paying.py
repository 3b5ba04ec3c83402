"""Who pays from a key: a database with one key, calls of a model with a price, and processes that make them."""

import asyncio
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from rlm.gateway import paying
from rlm.gateway.errors import OverBudget
from rlm.gateway.gateway import Gateway
from rlm.gateway.ledger import Ledger
from rlm.gateway.litellm_setup import litellm
from rlm.gateway.purse import Purse
from rlm.gateway.types import Message, Request
from rlm.serving.state.database import Database
from rlm.serving.types import Grant
from tests.helpers.model_server import MODEL, Step

PROMPT, REPLY = 4, 6
#: Dollars of a call, as the server bills it, where each token costs a thousandth.
BILLED = (PROMPT + REPLY) / 1000
SAID = Step(
    "said", usage={"prompt_tokens": PROMPT, "completion_tokens": REPLY, "total_tokens": PROMPT + REPLY}
)
CALL = Request(MODEL, (Message(role="user", content="why?"),), 10)


@contextmanager
def priced() -> Iterator[None]:
    """The test model at a thousandth of a dollar a token."""
    module = litellm()
    entry = {"input_cost_per_token": 1e-3, "output_cost_per_token": 1e-3, "litellm_provider": "openai"}
    module.register_model({MODEL: {**entry, "mode": "chat"}})
    yield
    module.model_cost.pop(MODEL)
    module.utils._invalidate_model_cost_lowercase_map()


def key_of(database: Database, usd: float | None = 1.0, rate: int | None = None) -> Grant:
    """A new key."""
    name = f"key {len(database.list_keys())}"
    return database.add_key(Grant(name=name, usd_per_day=usd, requests_per_minute=rate))[0]


def purse_of(database: Database, grant: Grant) -> Purse:
    """What the key's calls are paid from."""
    purse = database.purse(grant)
    assert purse is not None
    return purse


def gateway_of(purse: Purse) -> Gateway:
    """A gateway of a run that is paid from a purse."""
    return Gateway(Ledger(purse=purse), attempts=1)


def clients(url: str, grant: Grant, count: int) -> None:
    """Runs side by side, each of which makes calls until one is refused."""
    database = Database(url)
    purse = purse_of(database, grant)

    async def client() -> None:
        gateway = gateway_of(purse)
        try:
            while True:
                await gateway.complete(CALL)
        except OverBudget:
            return

    async def all_of_them() -> None:
        async with gateway_of(purse):
            await asyncio.gather(*[client() for _ in range(count)])

    asyncio.run(all_of_them())
    database.close()


def forked(work: Callable[[], None]) -> int:
    """The id of a fork of this process that does some work, with threads of its own, and then ends."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        paying._THREADS = ThreadPoolExecutor(4)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    """The exit code of a fork; less than 0 for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
