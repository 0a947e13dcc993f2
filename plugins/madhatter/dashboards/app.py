"""What the browser talks to, mounted by Airflow under /dashboards. Every route asks Airflow who is there."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from airflow.configuration import AIRFLOW_HOME
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from madhatter import audit_page
from madhatter.dashboards import assets, bundle
from madhatter.dashboards.board import Board, NotFound
from madhatter.dashboards.filters import FilterError
from madhatter.dashboards.model import Dashboard
from madhatter.dashboards.query import StatementFailed, Table, WarehouseDown
from madhatter.settings import settings

_FOREVER = "private, max-age=31536000, immutable"
# No 'unsafe-eval': Vega's expressions run in its interpreter (ast mode). Vega and the page set styles on elements.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'self'"
)


def make_app(board: Board | None = None) -> FastAPI:
    """The application. board: where answers come from; by default include/dashboards and Airflow's connection."""
    board = board or Board()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        board.close()

    app = FastAPI(
        title="Dashboards",
        lifespan=lifespan,
        dependencies=[Depends(requires_access_view(AccessView.WEBSITE))],
        # These three routes would be added without the dependency above.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    _add_errors(app)
    _add_page(app)
    _add_data(app, board)
    return app


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        path = request.url.path.removeprefix(request.scope["root_path"])
        if error.status_code == 401 and (path == "/" or path.startswith("/audit/")):
            return RedirectResponse(get_auth_manager().get_url_login(next_url=str(request.url)), status_code=302)
        return _words(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(NotFound)
    async def _not_found(_: Request, error: NotFound) -> Response:
        return _words(404, str(error))

    @app.exception_handler(FilterError)
    async def _filter(_: Request, error: FilterError) -> Response:
        return _words(422, str(error))

    @app.exception_handler(WarehouseDown)
    async def _down(_: Request, error: WarehouseDown) -> Response:
        return _words(503, str(error), {"Retry-After": "5"})

    @app.exception_handler(StatementFailed)
    async def _failed(_: Request, error: StatementFailed) -> Response:
        return _words(502, str(error))


def _words(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers={**(headers or {}), "Cache-Control": "no-store"})


def _add_page(app: FastAPI) -> None:
    @app.get("/")
    def page() -> Response:
        html = assets.read("index.html").decode().replace("{{version}}", assets.digest())
        return Response(
            html,
            media_type="text/html; charset=utf-8",
            headers={
                "Content-Security-Policy": _POLICY,
                "Cache-Control": "no-cache",
                "Referrer-Policy": "same-origin",
                "X-Content-Type-Options": "nosniff",
            },
        )

    @app.get("/audit/{load_id}")
    def audit(load_id: str) -> Response:
        try:
            body = audit_page.read(settings().store, load_id)
        except FileNotFoundError as error:
            raise NotFound(f"There is no audit page of {load_id}: it is written when its audit ends.") from error
        return Response(
            body,
            media_type="text/html; charset=utf-8",
            headers={
                "Content-Security-Policy": audit_page.POLICY,
                "Cache-Control": "no-cache",
                "Referrer-Policy": "same-origin",
                "X-Content-Type-Options": "nosniff",
            },
        )

    @app.get("/static/{version}/{name}")
    def asset(version: str, name: str, request: Request) -> Response:
        # The version is part of the address: a changed file has a new one, so that the browser may keep each for ever.
        if name == "vega.js":
            body, media_type = _vega(), "text/javascript"
        elif (found := assets.find(name)) is not None:
            body, media_type = found
        else:
            raise NotFound(f"There is no file {name}.")
        tag = bundle.etag(body)
        keep = _FOREVER if version == assets.digest() else "no-cache"
        headers = {"ETag": tag, "Cache-Control": keep, "X-Content-Type-Options": "nosniff"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=f"{media_type}; charset=utf-8", headers=headers)


@cache
def _vega() -> bytes:
    return bundle.bundle(Path(AIRFLOW_HOME) / "dashboards")


def _add_data(app: FastAPI, board: Board) -> None:
    @app.get("/api/dashboards")
    def dashboards() -> Response:
        shelf = board.shelf()
        return _json(
            {
                "dashboards": [_public(name, item) for name, item in shelf.dashboards.items()],
                "errors": [{"file": e.file, "line": e.line, "message": e.message} for e in shelf.errors],
            }
        )

    @app.get("/api/{dashboard}/status")
    def status(dashboard: str) -> Response:
        coverage = board.coverage(dashboard)
        oldest = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        oldest -= dt.timedelta(minutes=board.dashboard(dashboard).coverage.promise_min)
        return _json(
            {
                "version": coverage.version,
                "data_from": _utc(coverage.data_from),
                "data_to": _utc(coverage.data_to),
                "complete_to": _utc(coverage.complete_to),
                "is_stale": coverage.complete_to is not None and coverage.complete_to < oldest,
                "note": coverage.note,
            }
        )

    @app.get("/api/{dashboard}/{dataset}.csv")
    def export(dashboard: str, dataset: str, request: Request) -> Response:
        answer = board.answer(dashboard, dataset, dict(request.query_params))
        name = f"{dashboard}-{dataset}.csv"
        return Response(
            _csv(answer.table),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"},
        )

    @app.get("/api/{dashboard}/{dataset}")
    def data(dashboard: str, dataset: str, request: Request) -> Response:
        answer = board.answer(dashboard, dataset, dict(request.query_params))
        body = {
            "version": answer.version,
            "start": _utc(answer.start),
            "end": _utc(answer.end),
            "columns": [{"name": name, "type": kind} for name, kind in answer.table.columns],
            "rows": answer.table.rows,
            "note": answer.note,
        }
        return _json(body, request)


def _json(body: Any, request: Request | None = None) -> Response:
    encoded = msgspec.json.encode(body)
    tag = bundle.etag(encoded)
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if request is not None and request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(encoded, media_type="application/json", headers=headers)


def _public(name: str, dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard without its SQL; of each dataset, the filters that it depends on."""
    uses = {
        dataset: sorted({"period" if parameter in ("start", "end") else parameter for parameter in item.parameters})
        for dataset, item in dashboard.datasets.items()
    }
    return {"id": name, **dashboard.model_dump(mode="json", exclude={"datasets"}), "datasets": uses}


def _utc(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds") + "Z"


def _csv(table: Table) -> bytes:
    """CSV with a header; spreadsheets read it as UTF-8 (byte-order mark) and run no text as a formula (quoted)."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([name for name, _ in table.columns])
    for row in table.rows:
        writer.writerow(["'" + v if isinstance(v, str) and v[:1] in ("=", "+", "-", "@", "\t") else v for v in row])
    return b"\xef\xbb\xbf" + out.getvalue().encode()
