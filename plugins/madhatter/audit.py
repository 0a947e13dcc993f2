"""Audits a staged load with Great Expectations: the suites that the contracts state, pushed down to the warehouse."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from madhatter import audit_page
from madhatter.settings import settings
from madhatter.warehouse import CONNECTION

if TYPE_CHECKING:
    from madhatter.warehouse import Warehouse

log = logging.getLogger(__name__)

# A share of fewer rows says nothing: the only order of a quiet hour may well be a correction.
FEWEST_ROWS_OF_A_SHARE = 30
SUMMARY = {"result_format": "BASIC", "partial_unexpected_count": 0}  # counts and shares, no values


class SliceHeld(AirflowFailException):
    """A rule of severity error is broken: the slice stays in staging until someone decides."""

    def __init__(self, slice_id: str, words: str) -> None:
        super().__init__(words)
        self.slice_id = slice_id


@dataclass(frozen=True)
class Verdict:
    """What became of a rule over a load; no value of any column, for whoever may read it. rows: of the load in the
    table. few: the rule is about a share of the rows, and there are too few of them to have one."""

    topic: str
    table: str
    rule: str
    words: str
    severity: str
    rows: int
    outcome: Literal["holds", "broken", "few"]
    observed: str


class AuditLoad(BaseOperator):
    """Runs all suites over the load. A broken rule of severity error holds it and fails the task without a retry; a
    warning is logged and stored in the ledger. All verdicts are on a page beside the load, which the task links to."""

    template_fields = ("load",)
    operator_extra_links = (audit_page.AuditLink(),)

    def __init__(self, *, load: Any, conn_id: str = CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.load, self.conn_id = load, conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from madhatter import ledger, warehouse

        began = time.monotonic()
        load_id = self.load["load_id"]
        # Nothing staged, nothing to say about it; most of the task's time is the import of Great Expectations.
        verdicts = audit(self.conn_id, load_id, self.load["topics"]) if self.load["topics"] else []
        audit_page.write(settings().store, load_id, verdicts)
        broken = [verdict for verdict in verdicts if verdict.outcome == "broken"]
        for rule in broken:
            self.log.warning("%s: staging.%s breaks %s: %s", rule.severity, rule.table, rule.rule, rule.observed)
        errors = [rule for rule in broken if rule.severity == "error"]
        words = "; ".join(f"{rule.table}: {rule.rule} ({rule.observed})" for rule in broken) or "all rules hold"
        self.log.info("load %s: %s; %s", load_id, words, audit_page.address(load_id))
        with warehouse.session(context) as session:
            session.run(
                "update ops.slice set audit_result = :words where slice_id = :load_id",
                words=words[:1024],
                load_id=load_id,
            )
            ledger.set_state(session, load_id, "held" if errors else "audited")
            ledger.record_seconds(session, load_id, "audit", time.monotonic() - began)
        if errors:
            told = (
                f"load {load_id} is held, nothing new of it is visible: {words}. Mend the cause and clear this run "
                "from plan, or publish it as it is with force_publish; docs/runbook.md (slice held) says when"
            )
            # Of a replay the ledger's slices stay what they were.
            raise SliceHeld(load_id, told) if load_id in self.load["slices"] else AirflowFailException(told)
        return dict(self.load)


def audit(conn_id: str, load_id: str, topics: list[str]) -> list[Verdict]:
    """Every rule of these topics over their staged rows of a load."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    # Its registry tells of every class it skips; what a person looks for in the log is the verdict.
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx
    from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook
    from great_expectations.expectations.row_conditions import Column

    from include.contracts.contract import contract
    from madhatter import warehouse

    gx_context = gx.get_context(mode="ephemeral")
    gx_context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    hook = SnowflakeHook(snowflake_conn_id=conn_id)
    arguments = hook._get_conn_params()  # what the hook itself connects with: keys, host, session parameters
    source = gx_context.data_sources.add_sql(  # type: ignore[call-arg]
        name="warehouse",
        connection_string=f"snowflake://{arguments['account']}",
        kwargs={"connect_args": arguments},
        create_temp_table=False,
    )
    with warehouse.session(conn_id=conn_id) as session:
        counted = _rows(session, load_id)
    verdicts: list[Verdict] = []
    for topic in topics:
        of_topic = contract(topic)
        why = {(table.name, rule.name): rule.description for table in of_topic.tables for rule in table.expectations}
        for table, rules in suites(topic).items():
            # A query asset would be run as it is, all rows of it, to learn its columns.
            asset = source.add_table_asset(name=f"{topic} {table}", table_name=table, schema_name="staging")
            batch = asset.add_batch_definition_whole_table("load").get_batch()
            rows = (Column("load_id") == load_id) & (Column("topic") == topic)
            suite = gx.ExpectationSuite(name=table, expectations=[_expectation(gx, rule, rows) for rule in rules])
            # Without numbers one statement a table tells; only what fails is asked how much of it.
            outcome = batch.validate(suite, result_format="BOOLEAN_ONLY")
            failed = {_name(result) for result in outcome.results if not result.success}
            if failed:
                suite.expectations = [e for e in suite.expectations if (e.meta or {})["rule"] in failed]
                outcome = batch.validate(suite, result_format=SUMMARY)
            results = {_name(result): result for result in outcome.results if _name(result) in failed}
            number = counted.get((topic, table), 0)
            for rule in rules:
                name, severity = rule["meta"]["rule"], rule["meta"]["severity"]
                words = audit_page.words(rule, why.get((table, name), ""))
                ended, observed = _verdict(rule, results.get(name), number)
                verdicts.append(Verdict(topic, table, name, words, severity, number, ended, observed))
    return verdicts


def suites(topic: str) -> dict[str, list[dict[str, Any]]]:
    """The rules of a topic, {table: [{"type", "kwargs", "meta": {"rule", "severity"}}]}, as generated."""
    from include.contracts.contract import contract

    file = files("include.contracts.generated").joinpath(f"{contract(topic).module}.suite.json")
    return dict(json.loads(file.read_text()))


def _rows(session: Warehouse, load_id: str) -> dict[tuple[str, str], int]:
    """(topic, table) -> staged rows of the load."""
    from include.contracts.contract import models

    counts = [
        f"select topic, '{model.table.name}' as name, count(*) as n from staging.{model.table.name} "
        "where load_id = :load_id group by topic"
        for model in models()
    ]
    rows = session.rows(" union all ".join(counts), load_id=load_id)
    return {(row["topic"], row["name"]): row["n"] for row in rows}


def _name(result: Any) -> str:
    return str(result.expectation_config.meta["rule"])


def _expectation(gx: Any, rule: dict[str, Any], rows: Any) -> Any:
    name = "".join(part.title() for part in rule["type"].split("_"))
    return getattr(gx.expectations, name)(**rule["kwargs"], meta=rule["meta"], row_condition=rows)


def _verdict(rule: dict[str, Any], failure: Any, rows: int) -> tuple[Literal["holds", "broken", "few"], str]:
    """What became of a rule, and which share of the rows breaks it. failure: Great Expectations' result, if it failed.

    Values that it may have observed stay out: nobody knows where these words are read."""
    mostly = rule["kwargs"].get("mostly")
    if failure is None or failure.success:
        return (
            "holds",
            "no rows" if not rows else f"at most {100 * (1 - mostly):g} % of rows" if mostly else "0 % of rows",
        )
    if mostly is not None and failure.result.get("element_count", rows) < FEWEST_ROWS_OF_A_SHARE:
        return "few", f"fewer than {FEWEST_ROWS_OF_A_SHARE} rows"
    share = failure.result.get("unexpected_percent")
    if share is not None:
        return "broken", f"{share:.2f} % of rows"
    if failure.exception_info and "exception_message" in json.dumps(failure.exception_info, default=str):
        # An error of the warehouse may quote a row.
        log.error("rule %s could not be checked: %s", _name(failure), failure.exception_info)
        return "broken", "could not be checked, the task's log says why"
    return "broken", "does not hold"
