"""Calls through a gateway, for its tests: many at once, from blocking code, each with its reply or its error."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from rlm.gateway.errors import GatewayError
from rlm.gateway.gateway import Gateway
from rlm.gateway.types import Reply, Request


def run(gateway: Gateway, *requests: Request) -> list[Reply | GatewayError]:
    """All requests on an event loop of their own, with the gateway entered there."""

    async def all_of_them() -> list[Reply | GatewayError]:
        async with gateway:
            return await complete_all(gateway, requests)

    return asyncio.run(all_of_them())


async def complete_all(gateway: Gateway, requests: Sequence[Request]) -> list[Reply | GatewayError]:
    """One reply or error for each request, in their order."""
    return await asyncio.gather(*[_reply_or_error(gateway, request) for request in requests])


async def _reply_or_error(gateway: Gateway, request: Request) -> Reply | GatewayError:
    try:
        return await gateway.complete(request)
    except GatewayError as error:
        return error


def about(amount: float) -> float:
    """A number that equals all numbers close to it; `pytest.approx` where a float is asked for."""
    return cast(float, pytest.approx(amount))
