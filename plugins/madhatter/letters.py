"""Dead letters: which ones a person has mended by a rule of include/fixes; their slices are published again with it."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from madhatter.kafka import CONNECTION as KAFKA
from madhatter.settings import settings

if TYPE_CHECKING:
    from include.fixes import Rule
    from madhatter.warehouse import Row, Warehouse

MOST = 10_000  # of one run: each is named in the ledger and in a plan
_PLACE = re.compile(r"\s*([\w.-]+)\[(\d+)\]:(\d+)\s*")
Letter = tuple[str, int, int]  # topic, partition, offset


class LettersRefused(ValueError):
    """A choice of dead letters that cannot be mended: which ones, and why."""


@dataclass(frozen=True)
class Choice:
    """What a run was asked for. letters: none for all that the rule is about."""

    rule: str
    letters: tuple[Letter, ...]

    @classmethod
    def of(cls, params: dict[str, Any]) -> Choice:
        """From a run's parameters. Raises LettersRefused."""
        letters = []
        for text in params["letters"] or ():
            found = _PLACE.fullmatch(text)
            if found is None:
                raise LettersRefused(
                    f"letters: {text!r} is no place such as sales.orders[0]:17 (topic[partition]:offset)"
                )
            letters.append((found[1], int(found[2]), int(found[3])))
        return cls(params["rule"], tuple(letters))


class PlanFixes(BaseOperator):
    """Decides for dead letters that they are mended by the run's rule: all open ones that it is about, or those named
    in `letters`. Returns the loads of their slices. Run again it returns the same."""

    def __init__(self, *, kafka_conn_id: str = KAFKA, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kafka_conn_id = kafka_conn_id

    def execute(self, context: Context) -> list[dict[str, Any]]:
        from include.beam.archive import ArchiveGap
        from include.fixes import NoRule
        from madhatter import backfill, kafka, ledger, warehouse

        run = context["dag_run"]
        bootstrap = kafka.client_settings(self.kafka_conn_id)["bootstrap.servers"]
        try:
            choice = Choice.of(dict(context["params"]))
            with warehouse.session(context) as session:
                with session.transaction():
                    slices = decide(session, choice, run.run_id, run.triggering_user_name or "")
                found = ledger.with_ids(session, slices)
                source = context["params"]["source"]
                loads = list(
                    backfill.loads(
                        session, settings().store, found, source, run.run_id, bootstrap, settings().chunk_size
                    )
                )
        except (LettersRefused, NoRule, ArchiveGap) as error:
            raise AirflowFailException(str(error)) from error
        self.log.info("%s: slices %s in %s loads", choice.rule, ", ".join(slices), len(loads))
        return loads


def decide(warehouse: Warehouse, choice: Choice, run_id: str, who: str) -> list[str]:
    """Writes the decisions to ops.fix; returns the slices of the letters. Call it in a transaction. Raises
    LettersRefused when there is nothing to mend, NoRule."""
    import json

    from include.fixes import rule
    from madhatter import ledger

    own = rule(choice.rule)
    ledger.take_lock(warehouse, "publish", run_id)
    known = warehouse.rows("select distinct slice_id from ops.fix where run_id = :run_id", run_id=run_id)
    if known:
        return sorted(row["slice_id"] for row in known)
    letters = _chosen(warehouse, own, choice.letters)
    rows = [[row["topic"], row["partition"], row["offset"], row["slice_id"], row["reason"][:500]] for row in letters]
    for first in range(0, len(rows), 1000):
        warehouse.run_file(
            "ops/fix_decided.sql",
            letters=json.dumps(rows[first : first + 1000]),
            rule_name=own.name,
            run_id=run_id,
            decided_by=who,
        )
    return sorted({row["slice_id"] for row in letters})


def _chosen(warehouse: Warehouse, own: Rule, letters: tuple[Letter, ...]) -> list[Row]:
    """Letters that are open and that the rule is about. Raises LettersRefused."""
    rows = warehouse.rows_of_file("ops/dead_letters_of_committed.sql")
    by_place: dict[Letter, Row] = {(row["topic"], row["partition"], row["offset"]): row for row in rows}
    if not letters:
        found = [row for row in rows if not row["rule_name"] and _is_about(own, row)]
        if not found:
            raise LettersRefused(f"no open dead letter is one for {own.name}: {_about(own)}")
        return found[:MOST]
    wrong = defaultdict(list)
    for place in letters:
        name = f"{place[0]}[{place[1]}]:{place[2]}"
        row = by_place.get(place)
        if row is None:
            wrong["no dead letter of a published slice, or mended already"].append(name)
        elif row["rule_name"] and (row["outcome"] != "rejected" or row["rule_name"] == own.name):
            wrong[f"tried with {row['rule_name']} by run {row['run_id']}"].append(name)
        elif not _is_about(own, row):
            wrong[f"not what {own.name} is about, {_about(own)}"].append(name)
    if wrong:
        raise LettersRefused("; ".join(f"{', '.join(names[:10])}: {why}" for why, names in wrong.items()))
    return [by_place[place] for place in dict.fromkeys(letters)]


def _is_about(own: Rule, row: Row) -> bool:
    return row["topic"] in own.topics and own.reason.search(row["reason"]) is not None


def _about(own: Rule) -> str:
    return f"reasons like {own.reason.pattern}"
