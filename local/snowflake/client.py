"""Connect to the warehouse stand-in with the real Snowflake connector."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection


def connect(port: int, database: str = "MADHATTER", schema: str | None = None, **options: Any) -> SnowflakeConnection:
    """Open a session on the stand-in at 127.0.0.1:`port`. options: any of snowflake.connector.connect's.

    Raises snowflake.connector.errors.OperationalError within seconds when nothing listens there.
    """
    # at login the connector asks clouds' metadata services where it runs: seconds, without a network
    os.environ.setdefault("SNOWFLAKE_DISABLE_PLATFORM_DETECTION", "true")
    import snowflake.connector

    settings: dict[str, Any] = {
        "account": "local",
        "user": "local",
        "password": "local",  # the stand-in asks for none, the connector does
        "host": "127.0.0.1",
        "port": port,
        "protocol": "http",
        "database": database,
        "login_timeout": 10,
    }
    if schema is not None:
        settings["schema"] = schema
    return snowflake.connector.connect(**(settings | options))
