"""What both command lines print with: text made safe to look at, numbers with their units, subcommands with examples.

Text from documents, models and code is escaped, so that nothing in it acts on a terminal or a page.
"""

import argparse
import io
import re
from typing import TYPE_CHECKING, TextIO, TypeAlias

if TYPE_CHECKING:
    #: What `add_subparsers` gives.
    Subcommands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

# Control characters drive terminals; bidi overrides, isolates and zero-width characters hide or reorder words;
# tag characters (U+E0000..) carry text no eye sees; lone surrogates cannot be encoded. Newline and tab stay.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u2028\u2029\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def visible(text: str) -> str:
    r"""The text with every character that acts without being seen written out, as in `\x1b` or `\u202e`."""
    return _UNSEEN.sub(_escape, text.replace("\r\n", "\n"))


def one_line(text: str, width: int) -> str:
    """The text on one line, in at most `width` characters; '…' stands for what was left out."""
    line = visible(" ".join(text[: 8 * width].split()))
    return line if len(line) <= width and len(text) <= 8 * width else line[: max(width - 1, 0)] + "…"


def brief(value: object) -> str:
    """A value as an error quotes it: in at most 80 characters, all of them seen, whatever its sender made of it.

    A container, which may be deep, and a whole number of more than 20 digits are named by their type.
    """
    if isinstance(value, str):
        quoted = repr(value[:80])
        return quoted if len(quoted) <= 80 else quoted[:79] + "…"
    is_short = value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**20)
    return repr(value) if is_short else type(value).__name__


def count(number: int, noun: str, plural: str = "") -> str:
    """A number with its noun: `1 node`, `2,000 nodes`, `3 replies`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def byte_size(size: int) -> str:
    """Bytes in the unit that leaves a few digits: `9 bytes`, `4 kB`, `1.2 MB`."""
    kilo, mega = size / 1e3, size / 1e6
    return f"{size} bytes" if size < 1000 else f"{kilo:.0f} kB" if mega < 1 else f"{mega:,.1f} MB"


def allow_any_text(*streams: TextIO) -> None:
    """Let characters that a stream's encoding lacks be written as escapes instead of ending the command."""
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def command_line(prog: str, description: str, example: str) -> "tuple[argparse.ArgumentParser, Subcommands]":
    """A program's parser, whose --help ends with an example, and the place of its subcommands."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=f"example:\n  {example}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser, parser.add_subparsers(dest="command", required=True, metavar="COMMAND")


def add_command(
    commands: "Subcommands", name: str, help: str, example: str, run: str
) -> argparse.ArgumentParser:
    """A subcommand's parser, whose description is its `help` as a sentence, and whose --help ends with an example.

    `run` names the function that runs it, as `module:function`, so that --help imports none of them.
    """
    command = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ".",
        epilog=f"example:\n  {example}\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run)
    return command
