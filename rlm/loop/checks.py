"""Check the arguments of verbs and model calls, which come from code that a model wrote."""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from index_store.terminal import brief
from index_store.types import MODES, Json, Mode
from rlm.errors import RlmError
from rlm.prompts import refusals

WHERE_FIELDS = 20  # of metadata in one search; each is looked for in all documents


class Refused(RlmError):
    """A verb or a model call that cannot be answered as it was asked; `str()` is the text for the model.

    Where the run itself had called the verb, and no cell, it is the error of the run.
    """


def bind(
    name: str, method: Callable[..., Any], args: Sequence[Json], kwargs: Mapping[str, Json]
) -> dict[str, Json]:
    """The arguments of a call by name. Raises Refused, with the signature, where they do not fit it."""
    signature = inspect.signature(method)
    try:
        return dict(signature.bind(*args, **kwargs).arguments)
    except TypeError as e:
        bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
        shown = signature.replace(parameters=bare, return_annotation=inspect.Signature.empty)
        raise Refused(refusals.SIGNATURE.format(name=name, signature=shown, problem=e)) from e


def text(name: str, value: Json) -> str:
    """The value, checked to be text. Raises Refused."""
    if not isinstance(value, str):
        raise Refused(refusals.TEXT.format(name=name, value=brief(value)))
    return value


def texts(name: str, values: Json, most: int) -> list[str]:
    """The values, checked to be a list of at most `most` texts. Raises Refused."""
    if not isinstance(values, list | tuple):
        raise Refused(refusals.TEXTS.format(name=name, value=type(values).__name__))
    if wrong := [value for value in values if not isinstance(value, str)]:
        raise Refused(refusals.TEXTS_ITEM.format(name=name, value=type(wrong[0]).__name__))
    if len(values) > most:
        raise Refused(refusals.BATCH.format(count=len(values), name=name, most=most))
    return [value for value in values if isinstance(value, str)]


def one_each(name: str, values: Json, count: int) -> list[Json]:
    """The values, checked to be a list of `count` items. Raises Refused."""
    if not isinstance(values, list | tuple):
        raise Refused(refusals.ONE_EACH.format(name=name, count=count, value=type(values).__name__))
    if len(values) != count:
        raise Refused(refusals.ONE_EACH_COUNT.format(name=name, found=len(values), count=count))
    return list(values)


def nodes(values: Json) -> list[Json]:
    """The items of a list of nodes, of a piece of `gather` the nodes in it; [] for None. Raises Refused.

    The items themselves are not checked.
    """
    if values is None:
        return []
    if not isinstance(values, list | tuple):
        raise Refused(refusals.NODES.format(value=type(values).__name__))
    return [node for item in values for node in _nodes_of(item)]


def _nodes_of(item: Json) -> Sequence[Json]:
    nodes = item.get("nodes") if isinstance(item, Mapping) else None
    return nodes if isinstance(nodes, list) else [item]


def branches(under: Json) -> list[Json]:
    """The branches to look under: one, or those in a list, which are not checked; [] for None. Raises Refused."""
    listed = nodes(under) if isinstance(under, list | tuple) else [] if under is None else [under]
    return [node_of(item) for item in listed]


def node_of(item: Json) -> Json:
    """The node that an entry of a list names; anything else as it is."""
    return item["node"] if isinstance(item, Mapping) and "node" in item else item


def flag(name: str, value: Json) -> bool:
    """The value, checked to be True or False. Raises Refused."""
    if not isinstance(value, bool):
        raise Refused(refusals.FLAG.format(name=name, value=brief(value)))
    return value


def mode(value: Json) -> Mode | None:
    """The value, checked to be a search mode or None. Raises Refused."""
    known = next((mode for mode in MODES if mode == value), None)
    if known is None and value is not None:
        raise Refused(refusals.MODE.format(value=brief(value), modes=", ".join(MODES)))
    return known


def one_of(name: str, value: Json, known: Sequence[str]) -> str:
    """The value, checked to be one of those that are known. Raises Refused."""
    if not isinstance(value, str) or value not in known:
        raise Refused(refusals.ONE_OF.format(name=name, known=", ".join(known), value=brief(value)))
    return value


def at_most(value: Json, most: int, name: str) -> int:
    """The value, checked to be a whole number of at least 1, and cut to `most`. Raises Refused."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Refused(refusals.COUNT.format(name=name, value=brief(value)))
    return min(value, most)


def metadata(where: Json) -> dict[str, str]:
    """The fields of metadata that documents must have, as text, since an index stores all fields as text.

    The year 2021 becomes "2021"; None becomes {}. Raises Refused.
    """
    if where is None:
        return {}
    if not isinstance(where, Mapping):
        raise Refused(refusals.WHERE.format(value=brief(where)))
    if len(where) > WHERE_FIELDS:
        raise Refused(refusals.WHERE_FIELDS.format(count=len(where), most=WHERE_FIELDS))
    if wrong := [name for name, value in where.items() if not isinstance(value, str | int | float)]:
        raise Refused(refusals.WHERE_VALUE.format(name=brief(wrong[0]), value=brief(where[wrong[0]])))
    return {
        str(name): value if isinstance(value, str) else json.dumps(value) for name, value in where.items()
    }


def is_whole(value: Json) -> bool:
    """Whether a value is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)
