"""Snowflake's HTTP protocol, as far as the connector speaks it: login, statements, results, the end of a session."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from fakesnow.transforms import SERVER_VERSION
from snowflake.connector.errors import ProgrammingError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from local.snowflake.errors import from_exception
from local.snowflake.locks import TableLocks
from local.snowflake.session import Session
from local.snowflake.warehouse import Warehouse

# A statement that takes longer is answered "in progress", and the connector asks again: no HTTP request is long.
_ANSWER_WITHIN_S = 40.0
# A client whose TCP connection is gone has this long to send its next statement on a new one.
_RECONNECT_WITHIN_S = 5.0
# Snowflake's rule for a transaction that nobody goes on with and that blocks nobody; for one that does: idle_s.
_IDLE_S = 4 * 3600.0
# A session whose client is gone.
_FORGET_SESSION_S = 600.0
# A result that is not kept for a client that asks again.
_LARGE_BYTES = 1_000_000


class Server:
    """All sessions of one warehouse, as an ASGI application (`app`).

    idle_s: a transaction that was idle for so long is rolled back if another waits for it.
    """

    def __init__(self, warehouse: Warehouse, idle_s: float) -> None:
        self._warehouse = warehouse
        self._idle_and_blocking_s = idle_s
        self._locks = TableLocks()
        self._sessions: dict[str, Session] = {}
        self._gone: dict[tuple[str, int], float] = {}  # closed TCP connections, since when
        self._running: dict[str, asyncio.Task[dict[str, Any]]] = {}  # by request id
        # a thread a statement: those that wait for a lock must never keep out the one that will release it
        self._threads = ThreadPoolExecutor(max_workers=256, thread_name_prefix="statement")
        self.app = Starlette(
            routes=[
                Route("/health", self._health),
                Route("/session/v1/login-request", self._login, methods=["POST"]),
                Route("/session", self._session, methods=["POST"]),
                Route("/session/heartbeat", self._session, methods=["POST"]),
                Route("/queries/v1/query-request", self._query, methods=["POST"]),
                Route("/queries/v1/abort-request", self._abort, methods=["POST"]),
                Route("/queries/{request_id}/result", self._result),
                Route("/telemetry/send", self._health, methods=["POST"]),
            ],
            lifespan=self._lifespan,
        )

    def connection_lost(self, address: tuple[str, int]) -> None:
        """A client's TCP connection has closed."""
        self._gone[address] = time.monotonic()

    async def _health(self, _: Request) -> JSONResponse:
        return JSONResponse({"success": True, "sessions": len(self._sessions)})

    async def _login(self, request: Request) -> JSONResponse:
        data = (await _body(request)).get("data", {})
        query = request.query_params
        try:
            session = await self._in_thread(
                Session,
                self._warehouse,
                self._locks,
                query.get("databaseName"),
                query.get("schemaName"),
                {k: v for k, v in (data.get("SESSION_PARAMETERS") or {}).items() if v is not None},
            )
        except Exception as e:
            return _failure(from_exception(e, "login"))
        self._seen(session, request)
        self._sessions[session.token] = session
        return _success(
            {
                "token": session.token,
                "serverVersion": SERVER_VERSION,
                "parameters": [
                    {"name": "AUTOCOMMIT", "value": session.autocommit},
                    {"name": "TIMEZONE", "value": "Etc/UTC"},
                    {"name": "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "value": 3600},
                    {"name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 0},  # arrays come in the request
                ],
                "sessionInfo": session.names,
            }
        )

    async def _session(self, request: Request) -> JSONResponse:
        session = self._of(request)
        if session is None:
            return _no_session()
        if request.query_params.get("delete"):
            del self._sessions[session.token]
            await self._in_thread(session.close)
        return _success(None)

    async def _query(self, request: Request) -> JSONResponse:
        session = self._of(request)
        if session is None:
            return _no_session()
        body = await _body(request)
        request_id = request.query_params.get("requestId") or str(uuid.uuid4())
        # the connector sends a request again, with its id, if the answer did not arrive: it must not run twice
        task = self._running.get(request_id)
        if task is None:
            task = asyncio.create_task(
                self._in_thread(session.execute, body["sqlText"], body.get("bindings"), bool(body.get("describeOnly")))
            )
            self._running[request_id] = task
            task.add_done_callback(partial(self._forget_later, request_id))
        return await self._answer(task, request_id)

    def _forget_later(self, request_id: str, task: asyncio.Task[dict[str, Any]]) -> None:
        is_answered = not task.cancelled() and task.exception() is None
        is_large = is_answered and len(task.result().get("rowsetBase64", "")) > _LARGE_BYTES
        delay_s = 5 if is_large else 60  # a query that runs twice does no harm, a pile of large results does
        asyncio.get_running_loop().call_later(delay_s, self._running.pop, request_id, None)

    async def _result(self, request: Request) -> JSONResponse:
        session, request_id = self._of(request), request.path_params["request_id"]
        task = self._running.get(request_id)
        if session is None or task is None:
            return _no_session()
        return await self._answer(task, request_id)

    async def _answer(self, task: asyncio.Task[dict[str, Any]], request_id: str) -> JSONResponse:
        done, _ = await asyncio.wait({task}, timeout=_ANSWER_WITHIN_S)
        if not done:
            data = {"getResultUrl": f"/queries/{request_id}/result", "queryId": request_id, "queryAbortsAfterSecs": 300}
            return JSONResponse({"success": True, "code": "333333", "message": "in progress", "data": data})
        try:
            return _success({"parameters": [], "queryId": request_id, **task.result()})
        except ProgrammingError as e:
            if "database has been invalidated" in str(e.raw_msg):
                # DuckDB then refuses everything: the supervisor starts the server again, on what is committed
                print(f"warehouse: ending after a fatal error: {e.raw_msg}", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
            return _failure(e, request_id)

    async def _abort(self, request: Request) -> JSONResponse:
        session = self._of(request)
        if session is None:
            return _no_session()
        session.cancel()
        return _success(None)

    def _of(self, request: Request) -> Session | None:
        token = request.headers.get("Authorization", "").removeprefix('Snowflake Token="').removesuffix('"')
        session = self._sessions.get(token)
        if session is not None:
            self._seen(session, request)
        return session

    def _seen(self, session: Session, request: Request) -> None:
        session.last_seen = time.monotonic()
        if request.client is not None:
            session.address = (request.client.host, request.client.port)
            self._gone.pop(session.address, None)  # of an earlier connection with the same port

    async def _in_thread(self, function: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *args)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(self._sweep())
        yield
        for session in self._sessions.values():
            session.cancel()  # the process ends when its threads do
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping

    async def _sweep(self) -> None:
        """Roll back what nobody will commit: clients that died, and sessions that forgot their transaction."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for session in list(self._sessions.values()):
                closed = self._gone.get(session.address) if session.address else None
                if closed is not None and now - closed >= _RECONNECT_WITHIN_S:
                    session.lose_transaction("its client's connection was lost", _RECONNECT_WITHIN_S)
                    if now - session.last_seen >= _FORGET_SESSION_S:
                        del self._sessions[session.token]
                        await self._in_thread(session.close)
                limit_s = self._idle_and_blocking_s if self._locks.is_blocking(session.token) else _IDLE_S
                session.lose_transaction(f"it was idle for {limit_s:g} seconds", limit_s)
            used = {session.address for session in self._sessions.values()}
            self._gone = {a: t for a, t in self._gone.items() if a in used or now - t < _RECONNECT_WITHIN_S}


async def _body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    if request.headers.get("Content-Encoding") == "gzip":
        raw = gzip.decompress(raw)
    return dict(json.loads(raw or b"{}"))


def _success(data: dict[str, Any] | None) -> JSONResponse:
    return JSONResponse({"data": data, "code": None, "message": None, "success": True})


def _failure(e: ProgrammingError, query_id: str = "") -> JSONResponse:
    code = f"{e.errno:06d}"
    data = {"errorCode": code, "sqlState": e.sqlstate, "queryId": query_id}
    return JSONResponse({"data": data, "code": code, "message": e.raw_msg, "success": False})


def _no_session() -> JSONResponse:
    message = "Session no longer exists. New login required to access the service."
    return JSONResponse({"data": None, "code": "390111", "message": message, "success": False})
