"""`python -m local.dataflow --port P --grpc-port G --state DIR`: serve the Dataflow API until SIGTERM.

SIGTERM ends the running pipelines; their jobs start again with the next server. kill -9 leaves the pipelines at work;
the next server adopts them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import uvicorn
from starlette.applications import Starlette

from local.dataflow.errors import ApiError
from local.dataflow.jobs import Jobs
from local.dataflow.rest import refuse, routes
from local.dataflow.rpc import handlers

HOST = "127.0.0.1"
IMAGES = Path(__file__).with_name("images.toml")


async def serve(http: socket.socket, rpc_address: str, jobs: Jobs, images: Path, buckets: Path) -> None:
    """Serve jobs over both protocols until a signal to end."""
    rpc = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    rpc.add_generic_rpc_handlers(tuple(handlers(jobs)))
    try:
        rpc.add_insecure_port(rpc_address)
    except RuntimeError as error:
        raise SystemExit(_taken(rpc_address)) from error

    @contextlib.asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        jobs.recover()
        await rpc.start()
        watch = asyncio.create_task(jobs.watch())
        # A watch that died would leave every job running for ever: end with it, the supervisor starts a new server.
        watch.add_done_callback(lambda task: None if task.cancelled() else sys.exit(f"dataflow: {task.exception()!r}"))
        yield
        watch.cancel()
        await jobs.stop()
        await rpc.stop(0)

    app = Starlette(routes=routes(jobs, images, buckets), exception_handlers={ApiError: refuse}, lifespan=life)
    config = uvicorn.Config(app, log_level="warning", lifespan="on", timeout_graceful_shutdown=2)
    await uvicorn.Server(config).serve(sockets=[http])


def _taken(address: str) -> str:
    return f"dataflow: {address} is in use: end the process that has it, or choose other ports (PORT_BASE)"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.dataflow", description="Dataflow over local Beam jobs.")
    parser.add_argument("--host", default=HOST)
    parser.add_argument("--port", type=int, required=True, help="REST v1b3")
    parser.add_argument("--grpc-port", type=int, required=True, help="gRPC v1beta3")
    parser.add_argument("--state", type=Path, required=True, help="folder of the jobs; buckets/ in it stands for gs://")
    parser.add_argument("--images", type=Path, default=IMAGES, help="what the templates' images run")
    arguments = parser.parse_args()
    state: Path = arguments.state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock, socket.socket() as http:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(
                f"dataflow: {state} is in use by another server: end it, or give another --state"
            ) from None
        http.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            http.bind((arguments.host, arguments.port))
        except OSError:
            raise SystemExit(_taken(f"{arguments.host}:{arguments.port}")) from None
        asyncio.run(
            serve(
                http,
                f"{arguments.host}:{arguments.grpc_port}",
                Jobs(state),
                arguments.images.resolve(),
                state / "buckets",
            )
        )


if __name__ == "__main__":
    main()
