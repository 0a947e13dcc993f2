"""Runs schemachange against the warehouse stand-in: `python -m local.migrate HOST PORT [schemachange options]`.

schemachange keeps only some settings of a connection; host, port and protocol are given to the connector here.
"""

from __future__ import annotations

import sys
from functools import partial

MIGRATIONS = "include/sql/migrations"


def main() -> None:
    """Deploys the migrations. Exits with schemachange's own code."""
    import snowflake.connector
    from schemachange.cli import main as schemachange

    host, port, *options = sys.argv[1:]
    endpoint = {"host": host, "port": int(port), "protocol": "http", "password": "local"}
    snowflake.connector.connect = partial(snowflake.connector.connect, **endpoint)  # type: ignore[assignment]
    sys.argv = ["schemachange", "deploy", "-f", MIGRATIONS, "-a", "local", "-u", "local", "-d", "MADHATTER"]
    sys.argv += ["-c", "MADHATTER.OPS.CHANGE_HISTORY", "--schemachange-create-change-history-table", *options]
    schemachange()


if __name__ == "__main__":
    main()
