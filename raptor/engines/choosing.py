"""The engine that a user named."""

from collections.abc import Iterator
from contextlib import contextmanager

from raptor.engines.engine import ENGINES, RAY, Engine
from raptor.engines.local import Local
from raptor.errors import RaptorError


@contextmanager
def chosen(name: str, address: str) -> Iterator[Engine]:
    """The engine of that name, for the time of the block. Raises RaptorError for an unknown name, and for an address
    that it has no use for."""
    if name not in ENGINES:
        raise RaptorError(f"engine is {name[:80]!r}; give one of {', '.join(ENGINES)}")
    if address and name != RAY:
        raise RaptorError(f"an address is that of a Ray cluster, and the engine is {name}; give --engine ray")
    engine = _on_ray(address) if name == RAY else Local()
    try:
        yield engine
    finally:
        engine.close()


def _on_ray(address: str) -> Engine:
    from raptor.engines.on_ray import OnRay

    return OnRay(address)
