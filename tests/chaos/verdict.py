"""Whether anything was lost or doubled: the ledger against the log, core against the truth, marts against a rebuild."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from include.contracts.contract import models, topics
from local.instance import ROOT
from local.snowflake.client import connect
from madhatter import ledger, publish
from madhatter.warehouse import Warehouse
from tests import content
from tests.platform import Platform
from tests.truth import Truth, read_log

OFFSETS = "topic, partition, offset"
# The tables that publications make; the other marts are made when a day is over.
HOUR_MARTS = sorted(f"marts.{path.stem}" for path in (ROOT / "include/sql/marts/hour").glob("*.yml"))


@dataclass
class Verdict:
    """findings: what is wrong, each with examples. counts: events by what became of them."""

    findings: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def expect_nothing(self, what: str, found: list[Any]) -> None:
        if found:
            self.findings.append(f"{what}: {found[:5]}{' ...' if len(found) > 5 else ''}")


def judge(platform: Platform, folder: Path) -> Verdict:
    """Compares what is committed; what is not yet is no loss, and is told apart."""
    verdict = Verdict()
    warehouse = Warehouse(connect(platform.instance.port("warehouse")))
    warehouse.run("begin")  # one moment: what was not drained goes on meanwhile
    try:
        ledger.take_lock(warehouse, "publish", "verdict")
        _ledger(verdict, warehouse)
        _events(verdict, warehouse, platform, folder)
        _marts(verdict, warehouse)
    finally:
        warehouse.run("rollback")
        warehouse.close()
    return verdict


def _ledger(verdict: Verdict, warehouse: Warehouse) -> None:
    """Claims of a partition follow each other without gap or overlap, whatever became of their slices."""
    verdict.expect_nothing(
        "claims with a gap or an overlap",
        warehouse.rows(
            """
            select topic, partition, slice_id, start_offset, previous_end from (
                select *, coalesce(lag(end_offset) over (
                    partition by topic, partition order by start_offset, end_offset), 0) as previous_end
                from ops.slice_partition
            ) where start_offset <> previous_end
            """
        ),
    )
    verdict.expect_nothing(
        "partitions that are not balanced",
        warehouse.rows("select * from ops.reconciliation where not is_balanced"),
    )
    verdict.expect_nothing(
        "offsets that are in core or a dead letter twice",
        warehouse.rows(
            f"""
            select {OFFSETS}, count(*) as n
            from (select {OFFSETS} from ops.event union all select {OFFSETS} from ops.dead_letter)
            group by all having count(*) > 1
            """
        ),
    )


def _events(verdict: Verdict, warehouse: Warehouse, platform: Platform, folder: Path) -> None:
    """Event by event: what the sender's account says of each offset that a committed slice covers."""
    committed = warehouse.rows(
        "select part.slice_id, commit_no, part.topic, part.partition, part.start_offset, part.end_offset "
        "from ops.slice_partition as part join ops.slice on part.slice_id = slice.slice_id "
        "where slice.state = 'committed' and end_offset > start_offset"
    )
    truth = Truth(read_log(platform.bootstrap, list(topics()), folder / "log.parquet"), platform.account, committed)
    truth.load("event", warehouse.rows(f"select {OFFSETS}, event_id from ops.event") or [_NOBODY])
    truth.load("dead", warehouse.rows(f"select {OFFSETS}, reason from ops.dead_letter") or [_NOBODY])
    truth.db.execute(
        """
        create table fate as
        select message.*, expected.kind, expected.outcome, expected.slice_id is not null as is_committed,
            case when event.topic is not null then 'published' when dead.topic is not null then 'dead letter'
                when expected.slice_id is not null then 'duplicate' else 'waiting' end as found
        from message
        left join expected using (topic, partition, "offset")
        left join event using (topic, partition, "offset")
        left join dead using (topic, partition, "offset")
        """
    )
    verdict.counts = dict(truth.rows("select found, count(*) from fate group by all order by all"))  # type: ignore[arg-type]
    verdict.expect_nothing(
        "messages in the log that the account does not know, or the other way round",
        truth.rows('select topic, partition, "offset" from fate where outcome is null')
        + truth.rows(
            'select topic, partition, "offset" from expected anti join message using (topic, partition, "offset")'
        ),
    )
    verdict.expect_nothing(
        "events that did not become what the account says (topic, partition, offset, kind, expected, found)",
        truth.rows(
            'select topic, partition, "offset", kind, outcome, found from fate '
            "where is_committed and found <> outcome order by all"
        ),
    )
    verdict.expect_nothing(
        "rows of offsets that no committed slice covers",
        truth.rows(
            "select topic, partition, \"offset\", found from fate where not is_committed and found <> 'waiting'"
        ),
    )
    _content(verdict, warehouse, truth)


def _content(verdict: Verdict, warehouse: Warehouse, truth: Truth) -> None:
    """Column by column: core is what the messages of committed slices say."""
    for model in models():
        content.truth(truth, model, "outcome = 'published' and slice_id is not null", "slice_id")
        truth.db.execute("create or replace table core as from truth limit 0")
        if rows := warehouse.rows(f"select * from {model.table.core}"):
            truth.load("part", rows)
            truth.db.execute("insert into core by name from part")
        for name, sql in (
            ("missing in", "from truth except all from core"),
            ("only in", "from core except all from truth"),
        ):
            verdict.expect_nothing(f"rows {name} {model.table.core}", truth.rows(f"{sql} limit 3"))


def _marts(verdict: Verdict, warehouse: Warehouse) -> None:
    """What the slices have made of the hour marts is what all of core makes of them. To be rolled back."""

    def hashes() -> dict[str, Any]:
        return {mart: warehouse.rows(f"select hash_agg(*) as h, count(*) as n from {mart}") for mart in HOUR_MARTS}

    before = hashes()
    hours = [
        row["event_hour"].isoformat()
        for row in warehouse.rows("select distinct date_trunc('hour', event_ts) as event_hour from ops.event")
    ]
    for mart in HOUR_MARTS:
        warehouse.run(f"delete from {mart}")
    publish.compute_hours(warehouse, hours)
    after = hashes()
    verdict.expect_nothing("marts that differ from a rebuild", [m for m in HOUR_MARTS if before[m] != after[m]])


# A table without a row of its own has no columns either.
_NOBODY = {"topic": "", "partition": -1, "offset": -1, "reason": "", "event_id": ""}
