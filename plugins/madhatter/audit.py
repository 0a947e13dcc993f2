"""Audits a staged slice with Great Expectations: the suites that the contracts state, pushed down to the warehouse."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

from airflow.sdk import BaseOperator, Context

from madhatter.settings import settings
from madhatter.warehouse import CONNECTION

# A share of fewer rows says nothing: the only order of a quiet hour may well be a correction.
FEWEST_ROWS_OF_A_SHARE = 30
SUMMARY = {"result_format": "BASIC", "partial_unexpected_count": 0}  # counts and shares, no values


class SliceHeld(RuntimeError):
    """A rule of severity error is broken: the slice stays in staging until someone decides."""


@dataclass(frozen=True)
class Broken:
    """A rule that does not hold: table, rule, what was observed."""

    table: str
    rule: str
    severity: str
    observed: str


class AuditSlice(BaseOperator):
    """Runs all suites over the slice. A broken rule of severity error holds the slice and fails the task without a
    retry; a warning is logged and stored in the ledger."""

    template_fields = ("slice",)

    def __init__(self, *, slice: Any, conn_id: str = CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.slice, self.conn_id = slice, conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        from airflow.sdk.exceptions import AirflowFailException

        from include import storage
        from include.beam.plan import slice_folder
        from madhatter import ledger, warehouse

        began = time.monotonic()
        slice_id = self.slice["slice_id"]
        # Nothing staged, nothing to say about it; most of the task's time is the import of Great Expectations.
        broken = audit(self.conn_id, slice_id, self.slice["topics"]) if self.slice["topics"] else []
        storage.write_json(
            storage.join(slice_folder(settings().store, slice_id), "audit.json"), [asdict(rule) for rule in broken]
        )
        for rule in broken:
            self.log.warning("%s: staging.%s breaks %s: %s", rule.severity, rule.table, rule.rule, rule.observed)
        errors = [rule for rule in broken if rule.severity == "error"]
        words = "; ".join(f"{rule.table}: {rule.rule} ({rule.observed})" for rule in broken) or "all rules hold"
        self.log.info("slice %s: %s", slice_id, words)
        with warehouse.session(context) as session:
            session.run(
                "update ops.slice set audit_result = :words where slice_id = :slice_id",
                words=words[:1024],
                slice_id=slice_id,
            )
            ledger.set_state(session, slice_id, "held" if errors else "audited")
            ledger.record_seconds(session, slice_id, "audit", time.monotonic() - began)
        if errors:
            raise AirflowFailException(
                f"slice {slice_id} is held, nothing new of it is visible: {words}. Mend the cause and clear this run "
                "from plan, or see docs/runbook.md (slice held)"
            )
        return dict(self.slice)


def audit(conn_id: str, slice_id: str, topics: list[str]) -> list[Broken]:
    """The broken rules over the staged rows that a slice has of these topics."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    # Its registry tells of every class it skips; what a person looks for in the log is the verdict.
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx
    from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook
    from great_expectations.expectations.row_conditions import Column

    from include.contracts.contract import contract

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
    broken: list[Broken] = []
    for topic in topics:
        suite_file = files("include.contracts.generated").joinpath(f"{contract(topic).module}.suite.json")
        for table, rules in json.loads(suite_file.read_text()).items():
            # A query asset would be run as it is, all rows of it, to learn its columns.
            asset = source.add_table_asset(name=f"{topic} {table}", table_name=table, schema_name="staging")
            batch = asset.add_batch_definition_whole_table("slice").get_batch()
            rows = (Column("slice_id") == slice_id) & (Column("topic") == topic)
            suite = gx.ExpectationSuite(name=table, expectations=[_expectation(gx, rule, rows) for rule in rules])
            # Without numbers one statement a table tells; only what fails is asked how much of it.
            outcome = batch.validate(suite, result_format="BOOLEAN_ONLY")
            failed = {r.expectation_config.meta["rule"] for r in outcome.results if not r.success}  # type: ignore[union-attr]
            if failed:
                suite.expectations = [e for e in suite.expectations if (e.meta or {})["rule"] in failed]
                outcome = batch.validate(suite, result_format=SUMMARY)
                broken += [_broken(table, r) for r in outcome.results if not (r.success or _is_few(r))]
    return broken


def _expectation(gx: Any, rule: dict[str, Any], rows: Any) -> Any:
    name = "".join(part.title() for part in rule["type"].split("_"))
    return getattr(gx.expectations, name)(**rule["kwargs"], meta=rule["meta"], row_condition=rows)


def _is_few(result: Any) -> bool:
    """Whether a rule about a share of the rows was broken by too few rows to have one."""
    rows = result.result.get("element_count", FEWEST_ROWS_OF_A_SHARE)
    return "mostly" in result.expectation_config.kwargs and rows < FEWEST_ROWS_OF_A_SHARE


def _broken(table: str, result: Any) -> Broken:
    meta = result.expectation_config.meta
    fault = result.exception_info or {}
    observed = next((f"{v}" for k, v in fault.items() if k == "exception_message" and v), "")
    seen = result.result.get("unexpected_percent")
    share = f"{seen:.2f} % of rows" if seen is not None else json.dumps(result.result, default=str)[:200]
    return Broken(table, meta["rule"], meta["severity"], observed or share)
