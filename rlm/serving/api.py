"""Our own API, below /api: indexes, questions, jobs, runs."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import UploadFile

from index_store.errors import IndexStoreError
from index_store.index import Index
from index_store.types import Json, Mode, Scope
from rlm.limits import Limits, Models, Route
from rlm.serving import past, reading, uploads
from rlm.serving.jobs import Job
from rlm.serving.problems import Problem, problem_of
from rlm.serving.server import Asked, Server, grant_of, server_of
from rlm.serving.settings import check_name
from rlm.serving.streams import KEEP_ALIVE, LAST, EventStream, data, place_of
from rlm.serving.types import Grant

router = APIRouter(prefix="/api")
MOST_LISTED = 200
_TICKET_S = 60
LastEvent = Annotated[str | None, Header(alias="Last-Event-ID")]
#: Of the page of a run, which stands alone: nothing of it may reach this origin.
_PAGE_POLICY = (
    "sandbox allow-scripts allow-popups allow-downloads allow-modals; default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)

#: Of a file that somebody sent, which a browser's own viewer shows.
_PDF_POLICY = "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'; frame-ancestors 'self'"


class AskLimits(BaseModel):
    """Limits of one question; none is above what the server allows."""

    model_config = ConfigDict(extra="forbid")

    usd: Annotated[float | None, Field(ge=0)] = None
    tokens: Annotated[int | None, Field(ge=0)] = None
    calls: Annotated[int | None, Field(ge=0)] = None
    turns: Annotated[int | None, Field(ge=1)] = None
    depth: Annotated[int | None, Field(ge=0)] = None
    timeout_s: Annotated[float | None, Field(gt=0)] = None
    reply_tokens: Annotated[int | None, Field(ge=1)] = None


class AskScope(BaseModel):
    """The part of an index that a question is about."""

    model_config = ConfigDict(extra="forbid")

    doc: str | None = None
    where: dict[str, str] = Field(default_factory=dict)
    section: str | None = None


class Ask(BaseModel):
    """A question. `detached`: whether it goes on when nobody follows it any more."""

    model_config = ConfigDict(extra="forbid")

    question: str
    route: Route = "auto"
    model: Annotated[str | None, Field(max_length=200)] = None
    child_model: Annotated[str | None, Field(max_length=200)] = None
    limits: AskLimits = AskLimits()
    scope: AskScope = AskScope()
    detached: bool = False


class ReviewNote(BaseModel):
    """What a reviewer says of a run, or of one of its events."""

    model_config = ConfigDict(extra="forbid")

    verdict: str | None = None
    step: int | None = None
    text: str = ""
    by: Annotated[str | None, Field(max_length=200)] = None


def limits_for(given: AskLimits, most: Limits) -> Limits:
    """The limits of a question: of each the lower of what is asked for and what the server allows."""
    lower = {}
    for name, value in given.model_dump(exclude_none=True).items():
        cap = getattr(most, name)
        lower[name] = value if cap is None else min(value, cap)
    return replace(most, **lower)


def models_for(model: str | None, child: str | None, server: Server) -> Models:
    """The models of a question: those it names, short names too, else those of the server.

    Raises Problem for an address, which litellm takes for a model of some providers, and would send documents to.
    """
    if any("://" in name for name in (model or "", child or "")):
        raise Problem(400, "a model is named by its provider and its name, not by an address", "bad_model")
    if model is None and child is None:
        return server.settings.models
    return Models.named(model or server.settings.models.root, child or "")


# -- indexes -----------------------------------------------------------------------------------------------


@router.get("/indexes")
def indexes(request: Request) -> list[dict[str, Any]]:
    """The indexes that the key may ask."""
    server, grant = server_of(request), grant_of(request)
    opened = ((name, _readable(server, name, grant)) for name in server.shelf.names(grant))
    may_write = server.shelf.may_write(grant)
    return [reading.index_json(i, name, may_write=may_write) for name, i in opened if i is not None]


def _readable(server: Server, name: str, grant: Grant) -> Index | None:
    """An index; None, and a line in the log, for one that cannot be read, so that the others are listed."""
    try:
        return server.shelf.open(name, grant)
    except (Problem, IndexStoreError) as e:
        problem_of(e)
        return None


@router.get("/indexes/{index}")
def index(request: Request, index: str) -> dict[str, Any]:
    """The figures of one index."""
    shelf, grant = server_of(request).shelf, grant_of(request)
    return reading.index_json(shelf.open(index, grant), index, may_write=shelf.may_write(grant))


@router.get("/indexes/{index}/nodes/{node}")
def node(request: Request, index: str, node: str) -> dict[str, Any]:
    """A node with its text and what is around it; "root" is the top."""
    return reading.node_json(server_of(request).shelf.open(index, grant_of(request)), node)


@router.get("/indexes/{index}/tree")
def tree(request: Request, index: str) -> dict[str, Any]:
    """The upper levels of the tree, for a picture of it."""
    return reading.tree_json(server_of(request).shelf.open(index, grant_of(request)))


@router.get("/indexes/{index}/paths")
def paths(
    request: Request, index: str, node: Annotated[list[str], Query(max_length=MOST_LISTED)]
) -> dict[str, Any]:
    """The way from the root down to each of these nodes."""
    return reading.paths_json(server_of(request).shelf.open(index, grant_of(request)), node)


@router.get("/indexes/{index}/documents")
def documents(
    request: Request,
    index: str,
    q: Annotated[str, Query(max_length=500)] = "",
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50,
) -> dict[str, Any]:
    """The documents, or those whose id or title has these words."""
    return reading.documents_json(server_of(request).shelf.open(index, grant_of(request)), q, offset, limit)


@router.get("/indexes/{index}/text")
def text(
    request: Request,
    index: str,
    doc: str,
    start: Annotated[int, Query(ge=0)] = 0,
    end: Annotated[int | None, Query(ge=0)] = None,
    around: Annotated[int, Query(ge=0)] = 0,
) -> dict[str, Any]:
    """Characters of a document, with so many around them."""
    return reading.text_json(server_of(request).shelf.open(index, grant_of(request)), doc, start, end, around)


@router.get("/indexes/{index}/search")
def search(
    request: Request,
    index: str,
    q: Annotated[str, Query(max_length=10_000)],
    k: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 10,
    mode: Mode = "hybrid",
    under: str | None = None,
    doc: str | None = None,
) -> dict[str, Any]:
    """The nodes that fit best."""
    return reading.hits_json(server_of(request).searched(index, grant_of(request)), q, k, mode, under, doc)


@router.get("/indexes/{index}/source")
def source(request: Request, index: str, doc: str) -> dict[str, Any]:
    """Whether the file that a document was made of is a PDF that can be opened; null where it is not."""
    return {"doc": doc, "file": "pdf" if _pdf(request, index, doc) else None}


@router.post("/indexes/{index}/source")
def source_ticket(request: Request, index: str, doc: str) -> dict[str, Any]:
    """An address of that PDF that needs no key for a minute, for a tab, which cannot send one."""
    file = _pdf(request, index, doc)
    if file is None:
        raise Problem(404, "no PDF of this document is kept here", "not_found")
    place = f"{quote(index)}/{quote(file.name)}"
    return {
        "url": f"/sources/{place}?{_ticket(server_of(request), f'{index}/{file.name}')}",
        "seconds": _TICKET_S,
    }


def _pdf(request: Request, index: str, doc: str) -> Path | None:
    server, grant = server_of(request), grant_of(request)
    return uploads.uploaded_pdf(server.shelf.open(index, grant).document(doc), server.settings, index)


@router.post("/indexes/{index}/ask", status_code=202)
async def ask(request: Request, index: str, body: Ask) -> dict[str, Any]:
    """Put a question; its events and its answer are those of the job."""
    server = server_of(request)
    scope = Scope(body.scope.doc, body.scope.where, body.scope.section)
    models = await asyncio.to_thread(models_for, body.model, body.child_model, server)
    limits = limits_for(body.limits, server.settings.limits)
    asked = Asked(index, body.question, body.route, models, limits, scope, is_kept=body.detached)
    job = await server.ask(asked, grant_of(request))
    return {"job": job.id, "run": job.run}


@router.post(
    "/indexes/{index}/documents",
    status_code=202,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "required": ["files"],
                        "properties": {
                            "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                            "access": {
                                "type": "string",
                                "description": "labels of who may read, with commas",
                            },
                        },
                    }
                }
            },
        }
    },
)
async def upload(request: Request, index: str) -> dict[str, Any]:
    """Add files to an index, or build it from them where it is not there. `access`: labels of those who may read them;
    without it they are open to all, or, for a file that was there, to those who may read it now."""
    server, grant = server_of(request), grant_of(request)
    check_name(index)
    if not server.shelf.may_write(grant):
        raise Problem(
            403, "indexes may be changed only by a key that may write and read everything", "read_only"
        )
    if grant.indexes is not None and index not in grant.indexes:
        raise Problem(404, f"there is no index {index!r}", "model_not_found")
    server.jobs.check_room()
    async with request.form(max_files=server.settings.upload_files, max_fields=10) as form:
        files = [file for _, file in form.multi_items() if isinstance(file, UploadFile) and file.filename]
        if not files:
            raise Problem(400, "no files came; send them as multipart/form-data", "no_files")
        given = ",".join(text for text in form.getlist("access") if isinstance(text, str))
        access = uploads.labels_of(given, files)
        coming, names = await uploads.keep(files, server.settings)
    job = Job("build", grant.key, index)
    try:
        server.jobs.begin(
            job,
            lambda: server.build(job, coming, names, access, grant),
            lambda: uploads.give_up(coming),
        )
    except Problem:
        uploads.give_up(coming)
        raise
    return {"job": job.id, "files": names}


# -- jobs --------------------------------------------------------------------------------------------------


@router.get("/jobs")
async def jobs(request: Request) -> list[dict[str, Any]]:
    """The jobs that the key may see, without their answers, those under way first."""
    server, grant = server_of(request), grant_of(request)
    seen = (job for job in server.jobs.all() if grant.is_admin or job.key == grant.key)
    return [{n: v for n, v in job.as_json().items() if n not in ("answer", "report")} for job in seen]


@router.get("/jobs/{job}")
async def job(request: Request, job: str) -> dict[str, Any]:
    """A job, with its answer or its error once it has ended."""
    server = server_of(request)
    found = server.job(job, grant_of(request))
    server.jobs.attend(found, 0)
    return found.as_json()


@router.delete("/jobs/{job}")
async def cancel(request: Request, job: str) -> dict[str, Any]:
    """Cancel a job, and wait until it has ended; one that has ended stays as it is."""
    server = server_of(request)
    found = server.job(job, grant_of(request))
    server.jobs.cancel(found)
    await found.ended()
    return found.as_json()


@router.get("/jobs/{job}/events", response_class=StreamingResponse)
async def job_events(request: Request, job: str, last_event_id: LastEvent = None) -> Response:
    """The events of a job as they come, as server-sent events; with Last-Event-ID those behind it."""
    server = server_of(request)
    found, after = server.job(job, grant_of(request)), place_of(last_event_id)
    if after is None:
        return Response(status_code=204)
    server.jobs.attend(found, 1)
    return EventStream(_told(server, found, after), lambda: server.jobs.attend(found, -1))


async def _told(server: Server, job: Job, after: int) -> AsyncIterator[str]:
    if job.is_over and job.run is not None:
        async for line in _recorded(server.settings.runs / job.run, after):
            yield line
    else:
        async for number, event in job.follow(after):
            yield KEEP_ALIVE if event is None else data(event, number)
    yield data(job.ending(), LAST)


async def _recorded(folder: Path, after: int) -> AsyncIterator[str]:
    """The events of a trace behind number `after`; none of a run that never began."""
    try:
        events = await asyncio.to_thread(past.events_json, folder)
    except Problem:
        return
    for number, event in enumerate(events[after + 1 :], after + 1):
        yield data(event, number)


# -- runs --------------------------------------------------------------------------------------------------


@router.get("/runs")
def runs(
    request: Request,
    index: str | None = None,
    stop: str | None = None,
    verdict: str | None = None,
    q: Annotated[str, Query(max_length=500)] = "",
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 50,
) -> dict[str, Any]:
    """The runs that the key may see, the newest first. `verdict` may be "none"; `q`: words of question and answer."""
    server = server_of(request)
    rows = server.state.runs(grant_of(request), index=index, limit=past.MOST_SEARCHED)
    if stop is None and verdict is None and not q.strip():
        shown = [past.listed_json(row, server.settings.runs) for row in rows[offset : offset + limit]]
        return {"total": len(rows), "runs": shown}
    every = (past.listed_json(row, server.settings.runs) for row in rows)
    found = [one for one in every if _wanted(one, stop, verdict, q.casefold().split())]
    return {"total": len(found), "runs": found[offset : offset + limit]}


def _wanted(one: dict[str, Json], stop: str | None, verdict: str | None, words: list[str]) -> bool:
    text = f"{one['question'] or ''} {one['answer'] or ''}".casefold()
    is_so = stop in (None, one["stop"]) and verdict in (None, one["verdict"] or "none")
    return is_so and all(word in text for word in words)


@router.get("/runs/{run}")
def run(request: Request, run: str) -> dict[str, Any]:
    """A run with its answer; of one that never began, why."""
    server = server_of(request)
    row, folder = server.run_row(run, grant_of(request))
    job = server.jobs.of_run(run)
    return past.run_json(row, folder, job.problem.detail if job and job.problem else None)


@router.get("/runs/{run}/events", response_class=StreamingResponse)
async def run_events(request: Request, run: str, last_event_id: LastEvent = None) -> Response:
    """The events of a run, as server-sent events."""
    server = server_of(request)
    _, folder = await asyncio.to_thread(server.run_folder, run, grant_of(request))
    after = place_of(last_event_id)
    if after is None:
        return Response(status_code=204)

    async def told() -> AsyncIterator[str]:
        async for line in _recorded(folder, after):
            yield line
        yield data({"kind": "end", "conversation": "0"}, LAST)

    return EventStream(told())


@router.post("/runs/{run}/ticket")
def ticket(request: Request, run: str) -> dict[str, Any]:
    """An address of the run's page that needs no key for a minute, for a frame or a tab, which cannot send one."""
    server = server_of(request)
    server.run_folder(run, grant_of(request))
    return {"url": f"/pages/{run}?{_ticket(server, run)}", "seconds": _TICKET_S}


def _ticket(server: Server, what: str) -> str:
    until = int(time.time()) + _TICKET_S
    return f"until={until}&ticket={_seal(server, what, until)}"


def _seal(server: Server, what: str, until: int) -> str:
    return hmac.new(server.secret, f"{what}\n{until}".encode(), hashlib.sha256).hexdigest()


def _check_ticket(server: Server, what: str, until: int, ticket: str) -> None:
    is_theirs = hmac.compare_digest(_seal(server, what, until).encode(), ticket.encode())
    if not is_theirs or time.time() > until:
        raise Problem(403, "the ticket is none, or too old; ask for another", "bad_ticket")


@router.get("/runs/{run}/page", response_class=HTMLResponse)
def page(request: Request, run: str) -> HTMLResponse:
    """The review page of a run."""
    return _page(server_of(request).run_folder(run, grant_of(request))[1])


def _page(folder: Path) -> HTMLResponse:
    return HTMLResponse(past.page(folder), headers={"Content-Security-Policy": _PAGE_POLICY})


pages = APIRouter()


@pages.get("/pages/{run}", response_class=HTMLResponse)
def page_by_ticket(request: Request, run: str, until: int, ticket: str) -> HTMLResponse:
    """The review page of a run, for who has a ticket."""
    server = server_of(request)
    _check_ticket(server, run, until, ticket)  # such a ticket is given for a run that is there alone
    return _page(server.settings.runs / run)


@pages.get("/sources/{index}/{name}", response_class=FileResponse)
def source_by_ticket(request: Request, index: str, name: str, until: int, ticket: str) -> FileResponse:
    """A PDF that was uploaded, for who has a ticket."""
    server = server_of(request)
    _check_ticket(server, f"{index}/{name}", until, ticket)
    headers = {"Content-Security-Policy": _PDF_POLICY}
    file = server.settings.uploads / index / name
    return FileResponse(
        file, media_type="application/pdf", filename=name, content_disposition_type="inline", headers=headers
    )


@router.get("/runs/{run}/review")
def review(request: Request, run: str) -> dict[str, Any]:
    """What reviewers have said of a run."""
    return past.review_json(server_of(request).run_folder(run, grant_of(request))[1])


@router.post("/runs/{run}/review", status_code=201)
def add_review(request: Request, run: str, body: ReviewNote) -> dict[str, Any]:
    """Say something of a run. By whom is what the key is called; without keys, what the reviewer says."""
    grant = grant_of(request)
    by = grant.name or body.by or "local"
    _, folder = server_of(request).run_folder(run, grant)
    return past.add_review(folder, by, body.verdict, body.step, body.text)
