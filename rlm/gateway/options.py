"""The options that a caller may send with a call, such as a temperature: checked before anything is spent.

What rlm sets itself is refused, and so is what would let a call cost more than was reserved for it, go elsewhere, send
a key, or be made twice. Names that are not litellm's pass: they are fields of a provider's own.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rlm.gateway.errors import GatewayError
from rlm.gateway.redaction import redacted

#: A name with one of these words in it is refused, here and inside a value.
_RESERVED = re.compile(
    r"model|message|prompt|token|tool|function|stream|key|secret|auth|credential|password|cookie|identity|header|url"
    r"|base|endpoint|host|proxy|provider|client|cost|pric|tier|budget|retr|timeout|fallback|callback|cach|mock|rout"
    r"|deployment|region|aws|azure|vertex|bedrock|s3_|gcs_|litellm|lang|arize|dd_|posthog|signoz|newrelic|weave|keepalive"
    r"|extra|drop|allowed_|format|guardrail|metadata|plugin|search|transform|schema|agentic|candidate|predict"
    r"|num_?return|length|compaction|audio|modalit|batch|image|vector|session|tenant|interception|affinity|ssl|organi"
    r"|continue_|account|anthropic|fireworks|chat_comp|^max",
    re.IGNORECASE,
)
#: Further names that are refused, which are too short or too common to be words in others.
_NAMES = frozenset(
    {
        "acompletion", "aembedding", "aimg_generation", "api_version", "async_call", "atext_completion",
        "attempted_targets", "best_of", "complete_response", "completion_call_id", "context_management",
        "cooldown_time", "data_residency", "enable_tag_filtering", "ensure_alternating_roles", "fastest_response",
        "id", "input", "itpm", "kwargs", "log", "logger_fn", "merge_reasoning_content_in_choices", "n", "order", "otpm",
        "roles", "rpm", "rust", "self", "store", "tag_regex", "tags", "text_completion", "tpm", "ttl",
        "use_in_pass_through", "verbose", "weight",
    }
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
#: Of an option that may hold what others may not: a model's thinking has a budget, within the tokens of its reply.
_THINKING = "thinking"
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max", "default")
MOST_TEMPERATURE = 2
_MOST_CHARS, _MOST_DEEP = 10_000, 8


def check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options themselves, by name. Raises GatewayError for one that cannot be sent: one sentence."""
    if not isinstance(options, Mapping):
        raise GatewayError(
            f"the model options are a {type(options).__name__}; give an object of names and values"
        )
    for name, value in options.items():
        if problem := _problem(name, value):
            raise GatewayError(f"the model option {str(name)[:80]!r} {problem}")
    return dict(options)


def parse_option(pair: str) -> tuple[str, Any]:
    """(name, value) of a text `name=value`; a value that is JSON is taken as that, any other as text."""
    name, equals, text = pair.partition("=")
    if not name or not equals:
        raise GatewayError(f"--model-option is {pair[:80]!r}; write it as NAME=VALUE, for example top_p=0.9")
    try:
        return name, json.loads(text)
    except (ValueError, RecursionError):
        return name, text


def _problem(name: Any, value: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "is no name of an option; give one such as top_p"
    if reserved := next((inner for inner in [name, *_inner_names(name, value)] if is_reserved(inner)), None):
        where = "" if reserved == name else f" holds {reserved[:80]!r}, which"
        return f"{where} cannot be set: rlm sets it, or it could change what a call costs or where it goes".strip()
    if name == "temperature" and not (_is_number(value) and 0 <= value <= MOST_TEMPERATURE):
        return f"is {_shown(value)}; give a number from 0 to {MOST_TEMPERATURE}"
    if name == "reasoning_effort" and value not in EFFORTS:
        return f"is {_shown(value)}; give one of {', '.join(EFFORTS)}"
    return _value_problem(value)


def is_reserved(name: str) -> bool:
    """Whether an option of this name is refused."""
    return name.lower() in _NAMES or bool(_RESERVED.search(name))


def _inner_names(name: str, value: Any, depth: int = 0) -> Iterator[str]:
    """The names inside a value; none of a model's thinking, whose budget is within the tokens of its reply."""
    if name == _THINKING or depth > _MOST_DEEP:
        return
    if isinstance(value, Mapping):
        yield from (str(inner) for inner in value)
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for item in items:
        yield from _inner_names("", item, depth + 1)


def _value_problem(value: Any) -> str:
    if _depth(value) > _MOST_DEEP:
        return f"is nested more than {_MOST_DEEP} deep"
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode("utf-8")
    except (TypeError, ValueError):
        return f"is {_shown(value)}, which JSON cannot say"
    if len(text) > _MOST_CHARS:
        return f"has {len(text):,} characters; at most {_MOST_CHARS:,} are sent"
    if redacted(f"{text} ") != f"{text} ":
        return "holds a key of the environment, which would stand in the trace; leave it out"
    return ""


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= _MOST_DEEP:
        inner = [item for item in level if isinstance(item, Mapping | list | tuple)]
        level = [x for item in inner for x in (item.values() if isinstance(item, Mapping) else item)]
        depth += bool(inner)
    return depth


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _shown(value: Any) -> str:
    return repr(value)[:80]
