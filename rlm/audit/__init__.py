"""The trace of a run: written event by event, verified by anyone, shown as text or as one page."""

from rlm.audit.checking import Report, Thresholds, check
from rlm.audit.conversation import messages_seen
from rlm.audit.log import Trace, TraceError
from rlm.audit.page import render
from rlm.audit.routing import Branch, Place, branches, places_of
from rlm.audit.timeline import show
from rlm.audit.verifying import Verdict, read, verify

__all__ = [
    "Branch",
    "Place",
    "Report",
    "Thresholds",
    "Trace",
    "TraceError",
    "Verdict",
    "branches",
    "check",
    "messages_seen",
    "places_of",
    "read",
    "render",
    "show",
    "verify",
]
