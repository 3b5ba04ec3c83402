"""The trace of a run: written event by event, verified by anyone, shown as text or as one page."""

from rlm.audit.log import Trace, TraceError
from rlm.audit.verify import Verdict, read, verify

# Not lazy: `verify` names a module here and the function in it, and binding it now makes it always the
# function. These two modules import only the standard library.

__all__ = ["Trace", "TraceError", "Verdict", "read", "verify"]
