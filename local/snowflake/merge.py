"""MERGE by DuckDB's own statement: atomic, and an error where a row matches twice (fakesnow's is several steps)."""

from __future__ import annotations

import pyarrow as pa
from duckdb import DuckDBPyConnection
from fakesnow.transforms.merge import operations
from sqlglot import exp

_ACTION = {"inserted": "INSERT", "updated": "UPDATE", "deleted": "DELETE"}


def merge(duck: DuckDBPyConnection, expression: exp.Merge, params: list[object] | None) -> dict[str, int]:
    """Run it; returns rows by operation ("inserted", "updated", "deleted"), for those that the statement names."""
    named = [operation for operation, clauses in operations(expression).items() if clauses]
    for when in expression.find_all(exp.When):
        if isinstance(update := when.args.get("then"), exp.Update):
            for assignment in update.expressions:
                # Snowflake allows `set t.a = ...`, DuckDB wants the bare name
                if isinstance(assignment.this, exp.Column):
                    assignment.set("this", exp.column(assignment.this.this))
    result = duck.execute(f"{expression.sql(dialect='duckdb')} RETURNING merge_action", params)
    table: pa.Table = result.to_arrow_table()
    counts = {row["values"]: row["counts"] for row in table.column(0).value_counts().to_pylist()}
    return {operation: counts.get(_ACTION[operation], 0) for operation in named}
