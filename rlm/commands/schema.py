"""`rlm trace schema`: the JSON Schema of the events of a trace."""

import argparse

from index_store.terminal import print_json
from rlm.audit.schema import trace_schema


def schema(args: argparse.Namespace) -> int:
    """Print the schema of an event, as `read` gives it and `trace show --json` prints it."""
    print_json(trace_schema())
    return 0
