"""`python -m local.snowflake --port P --data DIR`: serve the warehouse until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from pathlib import Path

import duckdb
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from local.snowflake.server import Server
from local.snowflake.warehouse import Warehouse


def main() -> int:
    """Returns the exit code: 1 with a message when the port or the data folder cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m local.snowflake", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the databases; created if missing")
    parser.add_argument("--database", default="MADHATTER", help="a database to create if missing")
    parser.add_argument("--memory", default="768MB", help="DuckDB's memory limit; beyond it queries use the disk")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--idle-s", type=float, default=300, help="roll back a transaction idle for longer that blocks another"
    )
    options = parser.parse_args()
    listener = socket.socket(proto=socket.IPPROTO_TCP)  # asyncio sets TCP_NODELAY only where TCP is named
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError as e:
        print(
            f"warehouse: port {options.port} cannot be used ({e.strerror}): end its user or move PORT_BASE",
            file=sys.stderr,
        )
        return 1
    try:
        warehouse = Warehouse(options.data.resolve(), options.memory, options.threads)
        warehouse.attach(options.database)
    except (duckdb.Error, OSError) as e:
        print(f"warehouse: {options.data} cannot be opened: {e}", file=sys.stderr)
        return 1
    server = Server(warehouse, options.idle_s)

    class Protocol(H11Protocol):
        """HTTP that tells when a client is gone."""

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client:
                server.connection_lost(self.client)
            super().connection_lost(exc)

    config = uvicorn.Config(
        server.app,
        http=Protocol,
        log_level="warning",
        timeout_keep_alive=24 * 3600,  # a connection ends when its client does, which is how that is noticed
        timeout_graceful_shutdown=2,
    )
    listener.listen(128)
    asyncio.run(uvicorn.Server(config).serve(sockets=[listener]))
    warehouse.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
