"""The trace of a run: written event by event, verified by anyone, shown as text or as one page."""

from typing import TYPE_CHECKING

from index_store.lazy import lazy

if TYPE_CHECKING:
    from rlm.audit.checking import Report as Report, Thresholds as Thresholds, check as check
    from rlm.audit.conversation import messages_seen as messages_seen
    from rlm.audit.log import Trace as Trace, TraceError as TraceError
    from rlm.audit.page import render as render
    from rlm.audit.routing import (
        Branch as Branch,
        Place as Place,
        branches as branches,
        places_of as places_of,
    )
    from rlm.audit.timeline import show as show
    from rlm.audit.verifying import Verdict as Verdict, read as read, verify as verify
else:  # a type checker would let every name pass
    __all__, __getattr__, __dir__ = lazy(
        __name__,
        {
            "checking": "Report Thresholds check",
            "conversation": "messages_seen",
            "log": "Trace TraceError",
            "page": "render",
            "routing": "Branch Place branches places_of",
            "timeline": "show",
            "verifying": "Verdict read verify",
        },
    )
