"""What a model reads of a pack, and what is read of its reply.

The system message comes first, one of two for all maps, then question and fields, the rows last: the part that does
not change stands first, so that a provider's cache of prompts serves it.

Where rows have few answers, those of the same answer share a line of the reply, which takes a third of the tokens. What
such a reply leaves out or doubles is asked again with a line a row.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from rlm.gateway.blocks import Block, quote, unquote
from rlm.gateway.tokens import count_tokens
from rlm.gateway.types import Message
from rlm.mapping.fields import Malformed, as_spec, described, have_few_values, read_values
from rlm.mapping.lines import objects_in
from rlm.mapping.types import Field, Task, Values
from rlm.prompts import MAP, MAP_SHARED

_QUESTION = "{question}\n\nFields:\n{fields}\n\n{rows}"
_FIELD = "{name}: {form}"
_NEXT_ROW = re.compile(r"\n(?! )")
_BREAK = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")

#: A digest of the words above: answers that other words gave are not answers to these.
WORDS = hashlib.sha256(f"{MAP}\0{MAP_SHARED}\0{_QUESTION}\0{_FIELD}".encode()).hexdigest()


def row_line(number: int, text: str) -> str:
    """A row as it stands in its pack. It begins one line only: below a break within the row the line is indented, so
    that no text can look like another row."""
    return f"{number}: {_shown(text)}"


def _shown(text: str) -> str:
    return _BREAK.sub("\n ", text.strip())


def messages(task: Task, texts: Sequence[str], *, shared: bool = True) -> tuple[Message, ...]:
    """The prompt about the rows of a pack, which stand in it as 1, 2, 3 and so on. `shared`: rows may share a line of
    the reply, if the task's fields have few values."""
    system = MAP_SHARED if shared and have_few_values(task.fields) else MAP
    lines = "\n".join(row_line(number, text) for number, text in enumerate(texts, 1))
    told = _QUESTION.format(
        question=task.question.strip(),
        fields="\n".join(_FIELD.format(name=field.name, form=described(field)) for field in task.fields),
        rows=quote([Block("rows", lines)]),
    )
    return ({"role": "system", "content": system}, {"role": "user", "content": told})


def row_tokens(model: str, text: str) -> int:
    """Tokens of a row in its pack, with its number and its newline."""
    return count_tokens(model, row_line(1, text) + "\n")


def head_tokens(model: str, task: Task) -> int:
    """Tokens of a prompt beside its rows."""
    return max(count_tokens(model, messages(task, [], shared=shared)) for shared in (True, False))


def asked(task: Task) -> str:
    """What is asked of each row and in which words, as one text: other answers belong to any other."""
    spec = json.dumps(list(as_spec(task.fields).items()), ensure_ascii=False)
    return json.dumps([WORDS, task.question.strip(), spec], ensure_ascii=False)


def text_digest(text: str) -> bytes:
    """The first 16 bytes of a sha256 over a row's text as a prompt has it."""
    return _digest(_shown(text))


def _digest(shown: str) -> bytes:
    return hashlib.sha256(shown.encode("utf-8", "surrogatepass")).digest()[:16]


def row_record(name: str, digest: str) -> bytes:
    """A row with the `text_digest` of its text, in hexadecimal digits, as part of a digest over all rows."""
    return json.dumps([name, digest]).encode()


def digests_in(prompt: str) -> list[bytes]:
    """The `text_digest` of each row of a prompt, in the order of their numbers."""
    blocks = unquote(prompt)
    if not blocks or not (lines := blocks[-1].text):
        return []
    return [_digest(row.partition(": ")[2]) for row in _NEXT_ROW.split(lines)]


# -- replies -----------------------------------------------------------------------------------------------

DOUBLED = "the reply named it more than once"
LEFT_OUT = "the reply left it out"


def read_reply(reply: str, fields: Sequence[Field], rows: int) -> dict[int, Values | str]:
    """What a reply says of the rows 1 to `rows`: the values of each, or a sentence on what is wrong with them.

    A row that is not named is left out, and so is what is named but not in the pack. A row that is named twice is
    wrong, even if both say the same: one of them was meant for another. An object names one row or a list of them.
    Objects stand each at the start of a line or after one another, in an array or not; all else is passed by.
    """
    pack = range(1, rows + 1)
    told = [([number for number in _numbers(one) if number in pack], one) for one in objects_in(reply)]
    named = Counter(number for numbers, _ in told for number in numbers)
    read = [(numbers, _values(fields, one)) for numbers, one in told if numbers]
    return {
        number: DOUBLED if named[number] > 1 else values for numbers, values in read for number in numbers
    }


def _values(fields: Sequence[Field], one: Mapping[str, object]) -> Values | str:
    try:
        return read_values(fields, one)
    except Malformed as error:
        return str(error)


def _numbers(one: Mapping[str, object]) -> list[int]:
    """The rows that an object names, 0 for what is no row."""
    row = one.get("row")
    return [_number(each) for each in row] if isinstance(row, list) else [_number(row)]


def _number(row: object) -> int:
    if isinstance(row, str) and re.fullmatch(r"\d{1,9}", row, re.ASCII):
        return int(row)
    return row if type(row) is int else 0
