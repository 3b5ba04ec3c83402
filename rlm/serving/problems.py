"""What a client is told when something is wrong: problem details (RFC 9457), and on /v1 errors as OpenAI's are."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from index_store.errors import BadQuery, BrokenIndex, IndexStoreError, NoCache, NoSuchNode, StoreError
from index_store.terminal import one_line
from rlm.errors import RlmError
from rlm.gateway.errors import OverBudget
from rlm.serving.types import StateGone

_log = logging.getLogger(__name__)
_CHARS = 2_000
#: What OpenAI's clients call an error of each status.
_TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}


class Problem(RlmError):
    """What is wrong with a request. `status`: of the reply; `code`: a word for programs; `headers`: of the reply."""

    def __init__(
        self, status: int, detail: str, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.code, self.headers = status, detail, code, dict(headers or {})


def response(path: str, problem: Problem) -> JSONResponse:
    """The reply to a request for `path` with which something is wrong."""
    detail = one_line(problem.detail, _CHARS)
    if path.startswith("/v1/"):
        return JSONResponse({"error": openai_error(problem)}, problem.status, problem.headers)
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": detail,
    }
    if problem.code:
        body["code"] = problem.code
    return JSONResponse(body, problem.status, problem.headers, media_type="application/problem+json")


def openai_error(problem: Problem) -> dict[str, Any]:
    """A problem as OpenAI's API words one."""
    kind = _TYPES.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    return {"message": one_line(problem.detail, _CHARS), "type": kind, "param": None, "code": problem.code}


def problem_of(error: Exception) -> Problem:
    """What a client is told of an error. One that nobody foresaw goes into the log, not to the client."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, NoSuchNode):
        return Problem(404, str(error), "not_found")
    if isinstance(error, OverBudget) or isinstance(error.__cause__, OverBudget):  # also of a search
        return Problem(402, str(error), "insufficient_quota")
    if isinstance(error, StateGone):
        _log.error("%s", error)
        return Problem(
            503, "the server cannot reach its database; try again", "no_database", {"Retry-After": "5"}
        )
    if isinstance(error, BrokenIndex | NoCache | StoreError):
        _log.error("%s", error)
        return Problem(503, "the index cannot be read; the server's log says why", "broken_index")
    if isinstance(error, BadQuery | RlmError | IndexStoreError):
        return Problem(400, str(error), "bad_request")
    _log.error("a request failed", exc_info=error)
    return Problem(500, "the server failed; its log says why", "server_error")


def add_handlers(app: FastAPI) -> None:
    """Let every error of an app reach its client as a problem."""

    async def told(request: Request, error: Exception) -> JSONResponse:
        return response(request.url.path, problem_of(error))

    async def of_http(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        known = {404: "there is nothing at this address; /openapi.json lists what there is"}
        detail = known.get(error.status_code, str(error.detail))
        return response(request.url.path, Problem(error.status_code, detail, headers=error.headers))

    async def of_fields(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            return response(request.url.path, Problem(400, "the body is no JSON; send an object", "bad_json"))
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
        return response(
            request.url.path, Problem(422, f"{place or 'the body'}: {first['msg']}", "bad_request")
        )

    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(RequestValidationError, of_fields)
    for kind in (RlmError, IndexStoreError, OverBudget):
        app.add_exception_handler(kind, told)
