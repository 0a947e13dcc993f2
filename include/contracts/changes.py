"""What a new version of a contract may not do to those who know the old one: senders, the log, tables, readers.

A column may be added or removed when it is optional: `make contract` adds it to the tables, one that is gone stays
there empty. All else that changes the meaning of stored events is a new column or a new topic.
"""

from __future__ import annotations

from include.contracts.contract import Column, Contract


def breaking(old: Contract, new: Contract) -> list[str]:
    """The breaking changes from old to new, each with its place; none when every event of the old one still fits."""
    found = []
    if new.partitions < old.partitions:
        found.append(
            f"customProperties.partitions: {old.partitions} became {new.partitions}, but Kafka never removes one"
        )
    tables = {table.name: table for table in new.tables}
    for table in old.tables:
        if table.name not in tables:
            found.append(f"schema.{table.name}: the table is gone")
            continue
        now = {column.name: column for column in tables[table.name].columns}
        before = {column.name: column for column in table.columns}
        for name in (*before, *(name for name in now if name not in before)):
            if words := _column(before.get(name), now.get(name)):
                found.append(f"schema.{table.name}.{name}: {words}")
    return found


def _column(old: Column | None, new: Column | None) -> str:
    """What is breaking about one column; empty when nothing is."""
    if old is None:
        return "it is new and required, but stored events have none" if new and new.is_required else ""
    if new is None:
        return "it was required and is gone" if old.is_required else ""
    if old.sql_type != new.sql_type:
        return f"{old.sql_type} became {new.sql_type}"
    if old.path != new.path:
        return f"it was {old.path} of the event and became {new.path}"
    if new.is_required and not old.is_required:
        return "it was optional and became required"
    if gone := [value for value in old.enum if new.enum and value not in new.enum]:
        return f"{', '.join(gone)} is no value any more"
    return "any value was fine, now only " + ", ".join(new.enum) if new.enum and not old.enum else ""
