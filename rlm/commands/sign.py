"""`rlm trace sign`: sign the head of a run's trace."""

import argparse
import shlex
import sys
from pathlib import Path

from index_store.terminal import print_json, say, spelled
from rlm.audit import signing


def sign(args: argparse.Namespace) -> int:
    """Sign the head of a trace and say which files are new. Returns the exit code."""
    asked = sys.stdin.isatty() and sys.stderr.isatty()
    files = signing.sign(
        args.run_folder,
        Path(args.key).expanduser(),
        args.signer,
        timestamp=args.timestamp,
        unclosed=args.unclosed,
        force=args.force,
        ask=asked,
    )
    if args.json:
        print_json({"files": [str(file) for file in files]})
        return 0
    for file in files:
        say(spelled(str(file)))
    name = files[0].name
    whom = f"-f allowed_signers -I {shlex.quote(args.signer)} -n {signing.NAMESPACE}"
    say(f"check it with: ssh-keygen -Y verify {whom} -s {name}.sig < {name}", file=sys.stderr)
    return 0
