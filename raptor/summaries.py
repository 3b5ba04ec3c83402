"""The summaries of a level: each is kept from the generation before, read back, or asked of the model once."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from index_store.spool import Lazy, Spool, room
from index_store.terminal import count
from raptor.clustering.planning import Group
from raptor.errors import RaptorError
from raptor.grower import GO_ON, Grower
from raptor.summarising import Summary, parse_summary, summary_request
from raptor.types import Level
from rlm.gateway.errors import GatewayError, OverBudget
from rlm.gateway.gateway import Gateway
from rlm.gateway.types import Request


@dataclass(slots=True)
class Summariser:
    """Summarises groups of one level. `errors`: of the calls that failed for good; `stopped`: why no more are made."""

    grower: Grower
    gateway: Gateway
    errors: list[str] = field(default_factory=list)
    stopped: str = ""

    async def summaries(self, level: Level, groups: Sequence[Group], stage: str) -> Sequence[Summary]:
        """A summary for each group, in order; many are kept in a file.

        A call that failed for good does not stop the others, until there are more than `max_errors` or the cap is
        reached; calls under way then still end, and their summaries are recorded. Then RaptorError says what failed,
        because a tree with a hole is not a tree.
        """
        kept, done = Spool(self.grower.folder), 0
        places, waiting = room((len(groups),), np.int64, self.grower.folder), enumerate(groups)

        async def work() -> None:
            nonlocal done
            for number, group in waiting:  # which all workers share, so that a stop reaches what still waits
                if (summary := await self._one(level, group)) is not None:
                    places[number] = len(kept)
                    kept.append(json.dumps([summary.label, summary.text]).encode())
                done += 1
                self.grower.progress(stage, done, len(groups))
                await asyncio.sleep(0)  # where nothing is asked, others have their turn too

        self.grower.progress(stage, 0, len(groups))
        await asyncio.gather(*(work() for _ in range(min(self.grower.settings.concurrency, len(groups)))))
        if self.stopped or self.errors:
            raise RaptorError(self.stopped or self._failed())
        return Lazy(len(groups), lambda place: Summary(*json.loads(kept.text(int(places[place])))))

    async def _one(self, level: Level, group: Group) -> Summary | None:
        """The summary of a group; None where it failed, or where it would have been asked for after a stop."""
        grower = self.grower
        if group.repeats:
            return Summary(level.labels[group.members[0]], level.texts[group.members[0]])
        if group.kept and group.old is not None and grower.previous is not None:
            return Summary(grower.previous.at(group.old).label, grower.previous.text_at(group.old))
        blocks = grower.blocks(level, group)
        request = summary_request(grower.summarizer, blocks, grower.settings.summary_tokens, grower.options)
        if (recorded := grower.recorded(request)) is not None:
            return recorded
        if self.stopped:
            return None
        try:
            summary = await self._ask(request)
        except OverBudget as e:
            self.stopped = f"the build stopped at its cap: {e}; {GO_ON} with a higher cap"
            return None
        except (GatewayError, RaptorError) as e:
            self.errors.append(str(e))
            if len(self.errors) > grower.max_errors:
                self.stopped = self._failed()
            return None
        grower.record(request, summary)
        return summary

    async def _ask(self, request: Request) -> Summary:
        for attempt in range(2):  # a reply without a summary is worth asking for once more
            reply = await self.gateway.complete(request)
            try:
                return parse_summary(reply.text)
            except ValueError as e:
                if attempt:
                    raise RaptorError(f"{request.model} gave no usable summary twice: {e}") from e
        raise AssertionError("unreachable")

    def _failed(self) -> str:
        failed = count(len(self.errors), "summary", "summaries")
        return f"{failed} failed, first: {self.errors[0]}; {GO_ON}"
