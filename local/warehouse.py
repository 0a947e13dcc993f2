"""Asks this instance's warehouse, as `make sql` and `make up` do."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from local.connections import snowflake_arguments
from local.instance import Instance


@contextmanager
def session(instance: Instance) -> Iterator[Any]:
    """A cursor of a session of its own. Raises snowflake.connector.errors.Error."""
    import snowflake.connector

    logging.getLogger("snowflake.connector").setLevel(logging.WARNING)
    os.environ["SNOWFLAKE_DISABLE_PLATFORM_DETECTION"] = "true"  # a laptop has no metadata service to ask
    with snowflake.connector.connect(**snowflake_arguments(instance.settings)) as opened, opened.cursor() as cursor:
        yield cursor


def query(instance: Instance, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Runs one statement; rows as dicts with lower-case names. Raises snowflake.connector.errors.Error."""
    with session(instance) as cursor:
        cursor.execute(sql, tuple(parameters) or None)
        names = [column.name.lower() for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
