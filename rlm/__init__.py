"""Question in, answer and trace out: `rlm.ask(index, question)`."""

from typing import TYPE_CHECKING

from index_store.lazy import lazy

if TYPE_CHECKING:
    from rlm.answers.citations import Citation as Citation
    from rlm.answers.demands import Demands as Demands
    from rlm.answers.schema import load_schema as load_schema
    from rlm.asking.asking import Answer as Answer, ask as ask, ask_async as ask_async, events as events
    from rlm.asking.chat import Chat as Chat, open_chat as open_chat
    from rlm.asking.many import Answers as Answers, Outcome as Outcome, ask_many as ask_many
    from rlm.asking.questions import Question as Question, read_questions as read_questions
    from rlm.asking.tables import (
        Table as Table,
        map_rows as map_rows,
        map_rows_async as map_rows_async,
        plan_rows as plan_rows,
    )
    from rlm.audit.log import TraceError as TraceError
    from rlm.errors import RlmError as RlmError
    from rlm.evaluating.cases import read_cases as read_cases
    from rlm.evaluating.evaluating import Grid as Grid, Report as Report, evaluate as evaluate
    from rlm.evaluating.folder import System as System
    from rlm.gateway.errors import GatewayError as GatewayError
    from rlm.gateway.ledger import Caps as Caps
    from rlm.gateway.types import Usage as Usage
    from rlm.limits import Limits as Limits, Models as Models
    from rlm.mapping.types import Plan as Plan
    from rlm.sandbox.types import SandboxUnavailable as SandboxUnavailable
else:  # a type checker would let every name pass
    __all__, __getattr__, __dir__ = lazy(
        __name__,
        {
            "answers.citations": "Citation",
            "answers.demands": "Demands",
            "answers.schema": "load_schema",
            "asking.asking": "Answer ask ask_async events",
            "asking.chat": "Chat open_chat",
            "asking.many": "Answers Outcome ask_many",
            "asking.questions": "Question read_questions",
            "asking.tables": "Table map_rows map_rows_async plan_rows",
            "audit.log": "TraceError",
            "errors": "RlmError",
            "evaluating.cases": "read_cases",
            "evaluating.evaluating": "Grid Report evaluate",
            "evaluating.folder": "System",
            "gateway.errors": "GatewayError",
            "gateway.ledger": "Caps",
            "gateway.types": "Usage",
            "limits": "Limits Models",
            "mapping.types": "Plan",
            "sandbox.types": "SandboxUnavailable",
        },
    )
