"""What a new version of a contract may not do to those who know the old one: senders, the log, tables, readers.

A column may be added or removed when it is optional: `make contract` adds it to the tables, one that is gone stays
there empty. A rule may become looser, never tighter. All else that changes the meaning of stored events is a new column
or a new topic. What only says how the platform treats events may change: retention, more partitions, the audit's
expectations, what is personal, descriptions.
"""

from __future__ import annotations

from collections.abc import Iterator

from include.contracts.contract import Column, Contract, Lookup, Table


def breaking(old: Contract, new: Contract) -> list[str]:
    """The breaking changes from old to new, each with its place; none when every event of the old one still fits."""
    found = [f"customProperties.{words}" for words in _settings(old, new)]
    tables = {table.name: table for table in new.tables}
    for table in old.tables:
        if table.name not in tables:
            found.append(f"schema.{table.name}: the table is gone")
            continue
        found += [f"schema.{table.name}: {words}" for words in _table(table, tables[table.name])]
        now = {column.name: column for column in tables[table.name].columns}
        before = {column.name: column for column in table.columns}
        for name in (*before, *(name for name in now if name not in before)):
            if words := _column(before.get(name), now.get(name)):
                found.append(f"schema.{table.name}.{name}: {words}")
    known = {table.name for table in old.tables}
    for table in new.tables:
        if table.name not in known and table.part and table.is_required:
            found.append(f"schema.{table.name}: {table.part} is new and required, but stored events have none")
    return found


def _settings(old: Contract, new: Contract) -> Iterator[str]:
    """What is breaking about the topic's settings."""
    if new.partitions < old.partitions:
        yield f"partitions: {old.partitions} became {new.partitions}, but Kafka never removes one"
    if new.key != old.key:
        words = "and what had one key would lose its order"
        yield f"key: [{', '.join(old.key)}] became [{', '.join(new.key)}], {words}"
    if new.accepted_from > old.accepted_from:
        yield f"acceptedFrom: {old.accepted_from:%Y-%m-%dT%H:%M:%SZ} became {new.accepted_from:%Y-%m-%dT%H:%M:%SZ}"
    if new.accepted_ahead_s < old.accepted_ahead_s:
        yield f"acceptedAheadS: {old.accepted_ahead_s} became {new.accepted_ahead_s}"


def _table(old: Table, new: Table) -> Iterator[str]:
    """What is breaking about a table but for its columns."""
    if (old.part, old.is_object) != (new.part, new.is_object):
        yield f"its rows came from {_source(old)} and now from {_source(new)}"
    if old.grain != new.grain:
        yield f"its grain was {old.grain!r} and became {new.grain!r}"
    if new.is_required and not old.is_required:
        yield f"{new.part} was optional and became required"
    if new.min_items > old.min_items and not new.is_object:
        yield f"minItems {old.min_items} became {new.min_items}"
    if new.max_items is not None and (old.max_items is None or new.max_items < old.max_items):
        yield f"maxItems {_bound(old.max_items)} became {new.max_items}"


def _column(old: Column | None, new: Column | None) -> str:
    """What is breaking about one column; empty when nothing is."""
    if old is None:
        return "it is new and required, but stored events have none" if new and new.is_required else ""
    if new is None:
        return "it was required and is gone" if old.is_required else ""
    if (old.kind, old.sql_type) != (new.kind, new.sql_type):
        before, now = (old.sql_type, new.sql_type) if old.sql_type != new.sql_type else (old.kind, new.kind)
        return f"{before} became {now}"
    if old.is_inherited != new.is_inherited:
        return f"it came from the {_owner(old)} and now from the {_owner(new)}"
    if old.lookup != new.lookup:
        return f"it was {_lookup(old.lookup)} and became {_lookup(new.lookup)}"
    if old.path != new.path:
        return f"it was {old.path} of the event and became {new.path}"
    if new.is_required and not old.is_required:
        return "it was optional and became required"
    return _rules(old, new)


def _rules(old: Column, new: Column) -> str:
    """The rule of a column's values that became tighter; empty when none did."""
    if gone := [value for value in old.enum if new.enum and value not in new.enum]:
        return f"{', '.join(gone)} is no value any more"
    if new.enum and not old.enum:
        return "any value was fine, now only " + ", ".join(new.enum)
    if new.minimum is not None and (old.minimum is None or new.minimum > old.minimum):
        return f"minimum {_bound(old.minimum)} became {new.minimum}"
    if new.maximum is not None and (old.maximum is None or new.maximum < old.maximum):
        return f"maximum {_bound(old.maximum)} became {new.maximum}"
    if (new.min_length or 0) > (old.min_length or 0):
        return f"minLength {_bound(old.min_length)} became {new.min_length}"
    return ""


def _bound(value: int | None) -> str:
    return "none" if value is None else str(value)


def _source(table: Table) -> str:
    if table.part is None:
        return "the event"
    return f"the {'object' if table.is_object else 'array'} {table.part}"


def _owner(column: Column) -> str:
    return "event" if column.is_inherited else "part"


def _lookup(lookup: Lookup | None) -> str:
    return f"looked up as {lookup.reference}.{lookup.value} by {lookup.key}" if lookup else "sent with the event"
