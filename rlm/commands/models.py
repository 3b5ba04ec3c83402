"""`rlm models`: the models that are at hand, what each costs and takes, and whether its key is there."""

import argparse
from dataclasses import asdict, dataclass
from typing import Any

from index_store.terminal import one_line, print_json, say
from rlm.gateway.errors import GatewayError, UnknownModel
from rlm.gateway.models import has_key, price, window
from rlm.gateway.naming import Named, aliases
from rlm.gateway.offline.registry import offline_names
from rlm.loop import navigator

_THOUSAND = 1_000  # tokens whose price is asked for: of a million, some models have another price each


@dataclass(frozen=True, slots=True)
class Listed:
    """A model as `rlm models` lists it. Dollars for a million tokens, and the window, are None where they are not
    known; `key`: whether its key is in the environment, None where it needs none; `problem`: why it cannot be asked."""

    name: str
    model: str
    options: dict[str, Any]
    usd_per_million_in: float | None = None
    usd_per_million_out: float | None = None
    window: int | None = None
    key: bool | None = None
    problem: str = ""


def models(args: argparse.Namespace) -> int:
    """List the short names and the offline models, or one model by any name. Returns the exit code."""
    navigator.register()
    known = aliases(args.models)
    if args.name is None:
        listed = [_listed(name, named) for name, named in known.items()]
        listed += [_listed(name, Named(name)) for name in offline_names()]
    else:
        listed = [_listed(args.name, known.get(args.name, Named(args.name)))]
        if listed[0].problem:
            raise UnknownModel(listed[0].problem)
    if args.json:
        rows = [asdict(one) for one in listed]
        print_json(rows if args.name is None else rows[0], indent=2)
    else:
        say("\n".join(map(_line, listed)))
    return 0


def _listed(name: str, named: Named) -> Listed:
    model, options = named.model, dict(named.options)
    try:
        prices = named.usd_per_million or (
            _million(price(model, _THOUSAND, 0)),
            _million(price(model, 0, _THOUSAND)),
        )
        return Listed(name, model, options, *prices, named.window or window(model), has_key(model))
    except GatewayError as error:
        return Listed(name, model, options, problem=str(error))


def _million(usd: float | None) -> float | None:
    """The price of a million tokens from that of a thousand."""
    return None if usd is None else round(usd * _THOUSAND, 9)


def _line(one: Listed) -> str:
    name = one_line(one.name, 64)
    words = [f"{name} = {one_line(one.model, 80)}" if one.model != one.name else name]
    words += [f"{key}={one_line(str(value), 60)}" for key, value in one.options.items()]
    if one.problem:
        return f"{' '.join(words)}: {one_line(one.problem, 300)}"
    prices = (one.usd_per_million_in, one.usd_per_million_out)
    cost = "price not known" if None in prices else f"${prices[0]:g} in, ${prices[1]:g} out a million tokens"
    takes = "window not known" if one.window is None else f"window {one.window:,}"
    key = "needs no key" if one.key is None else f"key: {'yes' if one.key else 'no'}"
    return f"{' '.join(words)}: {cost}; {takes}; {key}"
