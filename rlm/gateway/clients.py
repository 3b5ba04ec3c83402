"""The HTTP clients that litellm keeps open on each event loop: counted by who uses them, closed by the last."""

import asyncio
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from rlm.gateway.litellm_setup import CLIENT, as_left, litellm

_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()  # those that a call was made on
_users: WeakKeyDictionary[asyncio.AbstractEventLoop, int] = WeakKeyDictionary()


def open_clients() -> None:
    """Count one more user of the running event loop's clients, which all its users share."""
    loop = asyncio.get_running_loop()
    _users[loop] = _users.get(loop, 0) + 1


async def leave_clients() -> None:
    """Count one user less; the last closes the clients."""
    _users[asyncio.get_running_loop()] -= 1
    await close_clients()


async def close_clients() -> None:
    """Close the clients of the running event loop, unless somebody who opened them has not left."""
    loop = asyncio.get_running_loop()
    if loop in _loops and not _users.get(loop):
        for client in _take_clients():
            await client.close()


def forget_dead_clients() -> None:
    """Call before a request: a new loop can have a dead one's id, and would be handed clients that died with it."""
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        _loops.add(loop)
        _take_clients()


def _take_clients() -> list[Any]:
    """Remove and return the clients litellm has for us and the running loop, with whose id their keys end."""
    clients = as_left(litellm(), "in_memory_llm_clients_cache").cache_dict
    suffix = f"-{id(asyncio.get_running_loop())}"
    return [
        clients.pop(key) for key in list(clients) if str(key).startswith(CLIENT) and str(key).endswith(suffix)
    ]
