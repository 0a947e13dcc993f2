"""`python -m local.pubsub --port P --http-port H --state DIR`: serve Pub/Sub until SIGTERM.

http://HOST:H/oauth2/v3/certs has the keys of the tokens that push requests carry.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import signal
import sqlite3
from pathlib import Path

import grpc
from aiohttp import web

from local.pubsub.broker import Broker
from local.pubsub.push import Pusher
from local.pubsub.rpc import handlers
from local.pubsub.store import Store
from local.pubsub.tokens import Signer

HOST = "127.0.0.1"
CERTS = "/oauth2/v3/certs"
REQUEST_BYTES = 12 << 20  # of a message of 10 MB with its attributes
SWEEP_S = 600


async def serve(rpc_address: str, http_port: int, state: Path) -> None:
    """Until a signal to end."""
    signer = Signer(state / "push.pem")
    store = Store(state / "pubsub.db")
    pusher = Pusher(signer)
    broker = Broker(store, pusher)
    limits = [("grpc.max_receive_message_length", REQUEST_BYTES), ("grpc.max_send_message_length", 64 << 20)]
    server = grpc.aio.server(options=[*limits, ("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(tuple(handlers(broker, store)))
    try:
        server.add_insecure_port(rpc_address)
    except RuntimeError as error:
        raise SystemExit(_taken(rpc_address)) from error
    app = web.Application()

    async def certs(_: web.Request) -> web.Response:
        return web.json_response(signer.keys())

    app.router.add_get(CERTS, certs)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, http_port).start()
    except OSError as error:
        raise SystemExit(_taken(f"{HOST}:{http_port}")) from error
    pusher.start()
    broker.start()
    await server.start()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), SWEEP_S)
        broker.drop_old()
    await server.stop(0)
    await pusher.close()
    await runner.cleanup()
    store.close()


def _taken(address: str) -> str:
    return f"pubsub: {address} is in use: end the process that has it, or choose other ports (PORT_BASE)"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.pubsub", description="Pub/Sub, durable, on one machine.")
    parser.add_argument("--port", type=int, required=True, help="gRPC, for PUBSUB_EMULATOR_HOST")
    parser.add_argument("--http-port", type=int, required=True, help=f"{CERTS}, by which push tokens are verified")
    parser.add_argument("--state", type=Path, required=True, help="folder of messages and key; created if missing")
    arguments = parser.parse_args()
    state: Path = arguments.state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    with (state / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"pubsub: {state} is in use by another server: end it, or give another --state") from None
        try:
            asyncio.run(serve(f"{HOST}:{arguments.port}", arguments.http_port, state))
        except (sqlite3.Error, OSError) as error:
            raise SystemExit(f"pubsub: {state} cannot be used: {error}") from error


if __name__ == "__main__":
    main()
