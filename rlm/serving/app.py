"""The app: routes, guard and pages around one server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from rlm.audit.page.html import asset
from rlm.serving import api, openai_api
from rlm.serving.guard import Guard
from rlm.serving.open_state import OpenState
from rlm.serving.problems import Problem, add_handlers
from rlm.serving.server import Server, grant_of, server_of
from rlm.serving.settings import Settings
from rlm.serving.types import State

WEB = Path(__file__).parent / "web"


def create_app(settings: Settings, state: State | None = None) -> FastAPI:
    """The app of a server. `state`: what all processes share; by default a state of this process without keys."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.server = Server(settings, state or OpenState())
        try:
            yield
        finally:
            await app.state.server.close(settings.drain_s)

    app = FastAPI(
        title="raptor-rlm",
        version=version("raptor-rlm"),
        description="Questions to indexes, with citations and a trace of every run.",
        lifespan=lifespan,
        docs_url=None,  # such a page loads from elsewhere
        redoc_url=None,
    )
    app.add_middleware(Guard)
    add_handlers(app)
    _add_health(app)
    app.include_router(api.router)
    app.include_router(api.pages)
    app.include_router(openai_api.router)
    _add_look(app)
    app.mount("/", _Pages(directory=WEB, html=True), name="web")
    return app


class _Pages(StaticFiles):
    """Our pages, at every address that no route takes: one that takes other methods says so, of others nothing is
    known."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A page. Raises HTTPException."""
        if any(route.matches(scope)[0] is Match.PARTIAL for route in scope["app"].routes):
            raise HTTPException(405)
        if scope["method"] not in ("GET", "HEAD") and self.lookup_path(path)[1] is None:
            raise HTTPException(404)
        return await super().get_response(path, scope)


def _add_look(app: FastAPI) -> None:
    @app.get("/look.css", include_in_schema=False)
    def look() -> Response:
        """What our pages look like, those of a run as those of the server."""
        return Response(asset("look.css"), media_type="text/css")


def _add_health(app: FastAPI) -> None:
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz(request: Request) -> JSONResponse:
        """Whether it takes questions: the database answers, and it is not shutting down."""
        server = server_of(request)
        is_ready = not server.jobs.is_draining and await asyncio.to_thread(server.state.is_ready)
        return JSONResponse({"status": "ready" if is_ready else "not ready"}, 200 if is_ready else 503)

    @app.get("/metrics")
    def metrics(request: Request) -> Response:
        """Figures for Prometheus, which are sums over all keys: for a key that sees all runs."""
        if not grant_of(request).is_admin:
            raise Problem(403, "the figures are of all keys, and for one that sees all runs", "admin_only")
        return Response(server_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)
