"""What the site takes from the code: the help of every command, as the command prints it."""

import argparse
import os
from collections.abc import Iterator
from typing import Any

import raptor.cli
import rlm.cli

PARSERS = {"raptor": raptor.cli.parser, "rlm": rlm.cli.parser}
#: Where the help of all commands of a program goes.
MARK = "<!-- help of {} -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with the help of commands in the place of its mark."""
    for program, parser in PARSERS.items():
        if (mark := MARK.format(program)) in markdown:
            markdown = markdown.replace(mark, help_of(parser()))
    return markdown


def help_of(parser: argparse.ArgumentParser) -> str:
    """The help of a program and of each of its commands, a heading and a block each."""
    os.environ["COLUMNS"] = "100"
    return "\n".join(
        f"## {one.prog}\n\n```text\n{one.format_help().rstrip()}\n```\n" for one in commands_of(parser)
    )


def commands_of(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its commands, and of theirs."""
    yield parser
    seen = set[int]()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                if id(one) not in seen:  # a command may have two names
                    seen.add(id(one))
                    yield from commands_of(one)
