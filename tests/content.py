"""What core must hold of the messages in a log, by the contracts' paths and types alone: nothing of the platform's own
parsing, SQL or marts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from include import references
from include.contracts.contract import POSITION_COLUMNS, Column, Model, Table, contract
from tests.truth import Truth

# What the platform adds to each row, as the log says it.
POSITION = {
    "event_hour": "date_trunc('hour', event_ts)",
    "topic": "topic",
    "partition": "partition",
    "offset": '"offset"',
    "arrival_ts": "arrival_ts",
}
TYPES = {"string": "varchar", "integer": "bigint", "date": "date", "boolean": "boolean", "timestamp": "timestamptz"}


def truth(log: Truth, model: Model, which: str, slice_id: str) -> None:
    """Makes the table `truth`: what core must hold of a model. which: condition over `expected` that picks the visible
    events; slice_id: SQL for an event's slice."""
    log.db.execute(f"create or replace table truth as {' union all by name '.join(_said(model, which, slice_id))}")


def _said(model: Model, which: str, slice_id: str) -> Iterator[str]:
    """What the messages of each of a model's topics say, by the contracts' paths and types alone: a query a topic."""
    position = {**POSITION, "slice_id": slice_id}
    for topic in model.topics:
        (table,) = (table for table in contract(topic).tables if table.name == model.table.name)
        root = contract(topic).tables[0]
        rows = f"select *, event as part from message where topic = '{topic}'"
        if table.part and table.is_object:
            rows = f"select *, event -> '$.{table.part}' as part from message where topic = '{topic}'"
        elif table.part:
            items = f"unnest(cast(event -> '$.{table.part}' as json[]))"
            rows = f"select *, {items} as part from message where topic = '{topic}'"
        own = ", ".join(f'{_value(column, root, table)} as "{column.name}"' for column in table.columns)
        places = ", ".join(f'{position[name]} as "{name}"' for name, _ in POSITION_COLUMNS)
        sent = f'join expected using (topic, partition, "offset") where {which}'
        exists = "and json_type(part) = 'OBJECT'" if table.is_object else ""
        yield f"select {own}, {places} from ({rows}) {sent} {exists}"


def _value(column: Column, root: Table, table: Table) -> str:
    """A column's value as SQL over event and part."""
    if column.is_inherited:
        (column,) = (one for one in root.columns if one.name == column.name)
        return _value(column, root, root).replace("part ->>", "event ->>")
    if lookup := column.lookup:
        (key,) = (one for one in table.columns if one.name == lookup.key)
        file = Path(references.__file__).parent / f"{lookup.reference}.csv"
        listed = f"read_csv('{file}', all_varchar = true)"
        return f"(select {lookup.value} from {listed} where {lookup.key} = {_value(key, root, table)})"
    text = f"(part ->> '$.{column.path}')"
    if column.kind == "number":
        return f"{text}::{column.sql_type.replace('number', 'decimal')}"
    return f"{text}::{TYPES[column.kind]}" + ("::timestamp" if column.kind == "timestamp" else "")
