"""The provider's call for a summary, made by an engine elsewhere. The gateway here reserves, settles and retries."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

from raptor.engines.engine import Engine, Stage, WorkerLost
from rlm.gateway.blocking import run_blocking
from rlm.gateway.clients import close_clients
from rlm.gateway.failures import FailedAttempt, classify
from rlm.gateway.gateway import Make, attempted
from rlm.gateway.provider import Completion
from rlm.gateway.types import Request

_GRACE_S = 5.0  # for a worker to say itself that time is up


def made_by(engine: Engine) -> Make:
    """What makes the attempts of a gateway's calls: this process, or workers of the engine, each of which makes one.

    An attempt whose worker is lost may have been billed, and is settled so, as one whose connection broke.
    """
    if engine.is_here:
        return attempted

    async def make(request: Request, timeout_s: float, bodies: list[bytes]) -> Completion | FailedAttempt:
        try:
            async with asyncio.timeout(None) as limit:  # to wait for a worker is no fault of the provider's

                def begun() -> None:
                    limit.reschedule(asyncio.get_running_loop().time() + timeout_s + _GRACE_S)

                stage = Stage("summarise", attempted_there, None)
                outcome, sent = await engine.once(stage, (request, timeout_s), begun)
        except TimeoutError as error:
            return classify(error)
        except WorkerLost as lost:
            why = f"the worker that made the call was lost ({lost})"
            return FailedAttempt(why, retry=True, may_be_billed=True, status="worker lost")
        bodies += sent
        return outcome

    return make


def attempted_there(
    shared: None, asked: tuple[Request, float]
) -> tuple[Completion | FailedAttempt, list[bytes]]:
    """The stage: one attempt, by the keys in the environment of the worker; and the bodies that it sent."""
    del shared
    return run_blocking(_attempted(*asked))


async def _attempted(request: Request, timeout_s: float) -> tuple[Completion | FailedAttempt, list[bytes]]:
    bodies = list[bytes]()
    try:
        outcome = await attempted(request, timeout_s, bodies)
    finally:
        await close_clients()
    if isinstance(outcome, Completion):  # of litellm's response nothing is looked at but what was used
        outcome = replace(outcome, raw=SimpleNamespace(usage=getattr(outcome.raw, "usage", None)))
    return outcome, bodies
