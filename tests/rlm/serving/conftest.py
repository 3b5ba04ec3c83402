"""One server for all tests of it, over two small indexes, with a scripted model that is asked over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm.serving.types import Grant
from tests.helpers.model_server import MODEL, Body, ModelServer, Step
from tests.helpers.rlm_toy import embedded, warm_up
from tests.helpers.served import KeyedState, Served, serving, settings_of
from tests.helpers.toy import index_of, publish_toy

#: How a client names the toy index with the scripted model.
SCRIPTED = f"toy/{MODEL}"
LIGHTS = 40


class Model:
    """The scripted model: `reply` is what it says next, to whatever it is asked."""

    def __init__(self) -> None:
        self.reply: str | Step = ""
        self.asked: list[Body] = []

    def __call__(self, body: Body) -> str | Step:
        self.asked.append(body)
        return self.reply


def cell(code: str) -> str:
    return f"```repl\n{code}\n```"


def light(number: int) -> str:
    """A name that no other document holds."""
    return f"{'bcdfghjkmn'[number // 10]}{'aeiou'[number % 5]}{'lprstvwxyz'[number % 10]}oville"


@pytest.fixture(scope="package")
def model() -> Iterator[Model]:
    warm_up()
    model = Model()
    with ModelServer(model) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        yield model


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Iterator[Served]:
    """A server without keys: `toy`, and `lights`, whose documents each tell of one lighthouse."""
    folder = tmp_path_factory.mktemp("served")
    publish_toy(folder / "toy.index")
    texts = {
        f"{light(n)}.txt": [f"The lighthouse of {light(n)} is {100 + n} feet tall."] for n in range(LIGHTS)
    }
    index_of(folder / "lights.index", texts, range(LIGHTS))
    with pytest.MonkeyPatch.context() as patch:
        embedded(patch)
        with serving(settings_of(folder, folder / "toy.index", folder / "lights.index")) as served:
            yield served


@pytest.fixture(scope="package")
def state() -> KeyedState:
    """Keys: `ann` may ask toy alone, `bob` everything, `root` sees all."""
    return KeyedState(
        {
            "rk-ann": Grant(
                "a1", "ann", frozenset({"toy"}), frozenset({MODEL}), may_write=False, is_admin=False
            ),
            "rk-bob": Grant("b2", "bob", requests_per_minute=7, is_admin=False),
            "rk-root": Grant("c3", "root"),
        }
    )


@pytest.fixture(scope="package")
def keyed(served: Served, state: KeyedState, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with keys over the same indexes."""
    folder = tmp_path_factory.mktemp("keyed")
    indexes = map(Path, served.server.settings.indexes.values())
    with serving(settings_of(folder, *indexes), state) as keyed:
        yield keyed


@pytest.fixture(autouse=True)
def a_reply_holds_for_its_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the scripted model says in one test it does not say in the next."""
    yield
    if "model" in request.fixturenames:
        request.getfixturevalue("model").reply = ""
