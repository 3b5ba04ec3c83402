"""`rlm trace replay`: do a recorded run again, and say whether it comes out the same."""

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace

from index_store.terminal import count, one_line, print_json, say
from rlm.asking.replaying.forking import fork
from rlm.asking.replaying.replay import Replay, replay as done_again
from rlm.commands.answers import as_text, exit_code
from rlm.commands.given import limits_of, named_models
from rlm.commands.live import live
from rlm.errors import RlmError


def replay(args: argparse.Namespace) -> int:
    """Do the run again and print what came of it. Returns the exit code: 1 where it comes out otherwise."""
    if args.index is None:
        raise RlmError("name the index that the run asked: rlm trace replay RUN --index INDEX")
    if args.turn is not None:
        return _fork(args)
    if args.model is not None or args.output is not None:
        raise RlmError("--model and -o go with --from TURN, from which live calls go on")
    result = done_again(args.run_folder, args.index, anyway=args.anyway)
    print_json(result.as_json()) if args.json else say("\n".join(_lines(result)))
    return 0 if result.is_same else 1


def _fork(args: argparse.Namespace) -> int:
    """Go on live from a turn and print the answer. Returns the exit code as `rlm ask` does."""
    if args.model is None or args.output is None:
        raise RlmError(
            "name who goes on from that turn, and the new run's folder: --from TURN --model M -o NEWRUN"
        )
    models, window = named_models(args, args.model, args.child_model)
    caps = replace(limits_of(args), window=window)
    with live(sys.stderr, quiet=args.quiet) as watch:
        answer = fork(
            args.run_folder,
            args.index,
            args.turn,
            models,
            args.output,
            caps=caps,
            watch=watch,
            memo=not args.no_memo,
        )
    print_json(answer.as_json()) if args.json else say(as_text(answer))
    return exit_code(answer)


def _lines(result: Replay) -> Iterator[str]:
    if result.index["recorded"] != result.index["given"]:
        yield "the index is another than the run asked, or another state of it"
    if result.changed:
        yield f"not as they were when the run was recorded: {' and '.join(result.changed)}"
    if (difference := result.difference) is None:
        end = "" if result.is_closed else ", up to where the record ends, which has no end of the run"
        yield f"same: {count(result.events, 'event')}{end}"
    else:
        place = f"event {difference.seq}, {difference.kind} in conversation {difference.conversation}"
        yield f"different: {place}: {difference.field}"
        yield f"  recorded: {_brief(difference.recorded)}"
        yield f"  replayed: {_brief(difference.replayed)}"
    for name, words in (("redone", "done again"), ("taken_over", "taken over from the record")):
        counts = [f"{what} {number:,}" for what, number in result.capture[name].items() if number]
        yield f"{words}: {', '.join(counts) or 'nothing'}"


def _brief(value: object) -> str:
    return "nothing" if value is None else one_line(str(value), 300)
