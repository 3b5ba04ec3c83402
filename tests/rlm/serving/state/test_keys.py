"""Keys: what they allow, how often they may ask, and the runs that they may see."""

import random
from collections import deque
from dataclasses import replace
from hashlib import sha256

import pytest
from sqlalchemy import select

from rlm.errors import RlmError
from rlm.serving.state.database import Database
from rlm.serving.state.tables import KEYS
from rlm.serving.types import Grant, RunRow, State
from tests.helpers.paying import ended, forked, key_of
from tests.rlm.serving.state.conftest import Opens

HOSTILE = ["'; drop table keys; --", "%s %(x)s {0}", "ключ", "a" * 100, "\U0001f511"]


def test_a_key_allows_what_it_was_made_with_until_it_is_revoked(opens: Opens) -> None:
    database: Database = opens()
    state: State = database
    assert not state.has_keys()
    wanted = Grant(
        name="alice",
        indexes=frozenset({"docs", "mails"}),
        models=frozenset(),
        access=frozenset({"hr"}),
        usd_per_day=0.1,
        requests_per_minute=7,
        may_write=False,
        is_admin=False,
    )
    grant, secret = database.add_key(wanted)
    assert state.has_keys() and state.grant(secret) == grant
    assert grant.key and replace(grant, key="") == wanted
    for other in ("", secret[:-1], secret + "A", secret.upper(), "rk-", "\0", "\ud800", "x" * 10**6):
        assert state.grant(other) is None
    assert database.revoke_key("alice") == grant
    assert state.grant(secret) is None and state.has_keys()
    with pytest.raises(RlmError, match="no key that holds"):
        database.revoke_key("alice")


def test_the_secret_is_random_shown_once_and_kept_as_a_hash(opens: Opens) -> None:
    database = opens()
    secrets = [database.add_key(Grant(name=f"key {n}"))[1] for n in range(3)]
    assert all(secret.startswith("rk-") and len(secret) == 46 for secret in secrets) and len({*secrets}) == 3
    rows = database.store.read(lambda c: c.execute(select(KEYS)).all())
    assert {row.digest for row in rows} == {sha256(secret.encode()).hexdigest() for secret in secrets}
    kept = "".join(str(value) for row in rows for value in row)
    assert not any(secret[8:] in kept for secret in secrets)


def test_a_name_may_be_anything_that_can_be_printed(opens: Opens) -> None:
    database = opens()
    for name in HOSTILE:
        grant, _ = database.add_key(Grant(name=name, access=frozenset({name})))
        assert database.list_keys()[-1].grant == grant and list(grant.access or ()) == [name]
        with pytest.raises(RlmError, match="there is a key"):
            database.add_key(Grant(name=name))
        database.revoke_key(name)
        database.add_key(Grant(name=name))
    assert len(database.list_keys()) == 2 * len(HOSTILE)


@pytest.mark.parametrize(
    "wrong",
    [
        Grant(name=""),
        Grant(name=" "),
        Grant(name="a" * 101),
        Grant(name="\x1b[2J"),
        Grant(name="a\nb"),
        Grant(name="a\u202eb"),
        Grant(name="\ud800"),
        Grant(name="a\0"),
        Grant(name="a", indexes=frozenset({"\x07"})),
        Grant(name="a", models=frozenset({""})),
        Grant(name="a", access=frozenset({"x" * 101})),
        Grant(name="a", usd_per_day=-1),
        Grant(name="a", usd_per_day=float("nan")),
        Grant(name="a", usd_per_day=float("inf")),
        Grant(name="a", usd_per_day=1e9),
        Grant(name="a", requests_per_minute=0),
        Grant(name="a", requests_per_minute=10**9),
    ],
)
def test_a_key_that_cannot_be_kept_is_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, wrong: Grant
) -> None:
    database = Database(str(tmp_path_factory.mktemp("keys") / "state.sqlite"))
    with pytest.raises(RlmError, match=r"a key (is|cannot)|of a key is"):
        database.add_key(wanted=wrong)
    assert database.list_keys() == []
    database.close()


# -- requests a minute -------------------------------------------------------------------------------------


def test_two_processes_together_let_as_many_requests_through_as_a_key_may_make(
    opens: Opens, url: str
) -> None:
    database = opens()
    grant = key_of(database, rate=20)

    def ask() -> None:
        one = Database(url, clock=lambda: 1e9)
        let = sum(one.wait_s(grant) == 0 for _ in range(15))
        one.record(RunRow(f"run {let} {one.process}", grant.key, "docs", str(let), "2026-01-01"))
        one.close()

    assert [ended(pid) for pid in [forked(ask) for _ in range(2)]] == [0, 0]
    assert sum(int(run.question) for run in database.runs(Grant())) == 20


def test_no_minute_holds_more_requests_than_a_key_may_make_and_the_wait_that_is_told_is_enough(
    opens: Opens,
) -> None:
    now, chance = [1e9], random.Random(7)
    database = opens(clock=lambda: now[0])
    grant, let = key_of(database, rate=4), deque[float]()
    for _ in range(60):
        now[0] += chance.random() * 20
        if (wait_s := database.wait_s(grant)) > 0:
            assert len([at for at in let if at > now[0] - 60]) == 4  # nobody waits for nothing
            now[0] += wait_s
            assert database.wait_s(grant) == 0
        let.append(now[0])
        assert len([at for at in let if at > now[0] - 60]) <= 4
    assert database.wait_s(Grant()) == 0


# -- runs --------------------------------------------------------------------------------------------------


def test_a_key_sees_its_own_runs_and_an_admin_all_the_newest_first(opens: Opens) -> None:
    database = opens()
    for number, key in enumerate(["a", "b", "a"]):
        run = RunRow(f"run-{number}", key, "docs", "who?", f"2026-01-0{number + 1}T00:00:00+00:00")
        database.record(run)
    own, admin = Grant(key="a", is_admin=False), Grant(key="c")
    assert [run.folder for run in database.runs(own)] == ["run-2", "run-0"]
    assert [run.folder for run in database.runs(admin)] == ["run-2", "run-1", "run-0"]
    assert [run.folder for run in database.runs(admin, limit=1, offset=1)] == ["run-1"]
    assert database.runs(admin, index="mails") == [] == database.runs(admin, limit=-1)
    assert database.run(own, "run-1") is None and database.run(admin, "run-1") is not None
    assert database.run(admin, "' or '1' = '1") is None


def test_a_run_is_listed_as_what_has_become_of_it_whatever_its_words_are(opens: Opens) -> None:
    database = opens()
    run = RunRow("run", "", "docs", "a\0b\ud800'; --", "2026-01-01T00:00:00+00:00")
    database.record(run)
    ended = RunRow("run", "", "docs", "q", run.began, "answer", 0.1, 3, 2**40, frozenset({"hr"}))
    assert database.runs(Grant())[0].stop is None
    database.record(ended)
    assert database.runs(Grant()) == [ended]
