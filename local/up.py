"""What `make up` does once the services answer: topics, tables, the history and the market up to now through the
pipeline, live traffic."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from local import health, services, table
from local.airflow.api import AirflowApi
from local.instance import PUSH_ACCOUNT, ROOT, Instance
from local.migrate import migrate
from local.progress import Say, note, step
from local.warehouse import query

# The operators' own modules, which Airflow finds by itself.
sys.path.append(str(ROOT / "plugins"))

HISTORY_RUN = "history"
MARKET_NOTE = "market.json"
PIPELINE_TIMEOUT_S = 600


def check(instance: Instance) -> None:
    """Raises SettingError before anything is touched when the settings do not fit together, RuntimeError when BROKERS
    asks for another number than the instance has."""
    from madhatter import settings

    settings.check()
    asked = os.environ.get("BROKERS") or str(instance.brokers)
    if asked != str(instance.brokers):
        raise RuntimeError(
            f"BROKERS={asked}: the log of {instance.home} was made for {instance.brokers}, and its topics have as many "
            f"copies. Leave BROKERS out to go on with it; or `make clean`, which removes the data, and then `make up "
            f"BROKERS={asked}`; or give the other platform a MADHATTER_HOME and a PORT_BASE of its own"
        )


def prepare(instance: Instance) -> None:
    """Topics, tables, history sent. Every part is done once; what is there already costs a look."""
    from include.contracts.contract import topics
    from include.pubsub.apply import apply
    from include.pubsub.topology import read
    from madhatter import bounds, kafka

    with step("Warehouse tables"):
        migrate(instance)
    with step("Topics") as say:
        admin = kafka.admin({"bootstrap.servers": instance.bootstrap})
        _refuse_lost_topics(instance, set(topics()) - set(admin.list_topics(timeout=15).topics))
        say(", ".join(kafka.create_topics(admin, topics(), instance.brokers)))
        bounds.align(admin, topics())
    with step("Pub/Sub") as say:
        functions = json.loads(instance.settings["MADHATTER_FUNCTIONS"])
        done = list(apply(instance.settings["MADHATTER_PROJECT"], read(), functions, PUSH_ACCOUNT))
        say(f"{len(done)} topics and subscriptions made or changed" if done else "")
    if _is_without_history(instance):
        return
    sent = query(instance, "select shift_weeks from ops.history")
    _send_market(instance, sent[0]["shift_weeks"] if sent else _send_history(instance))


def get_prism(instance: Instance) -> None:
    """Gets what the streaming job runs on, once; where that cannot be had, says so: all but the live half works."""
    from local import prism
    from local.prism.install import NotInstalled, install

    if not services.has_stream(instance):
        return
    try:
        install(prism.home(), note)
    except NotInstalled as error:
        note(f"There will be no stream, no signals and no live minutes: {error}\nMend it, then `make up` again")


def _is_without_history(instance: Instance) -> bool:
    return instance.settings.get("MADHATTER_HISTORY") == "none"


def _refuse_lost_topics(instance: Instance, missing: set[str]) -> None:
    """Raises RuntimeError for a topic that the ledger has offsets of: made again, it would start over at 0."""
    rows = query(instance, "select topic, sum(end_offset) as events from ops.slice_partition group by topic")
    if lost := sorted(row["topic"] for row in rows if row["topic"] in missing):
        raise RuntimeError(
            f"topic {', '.join(lost)} is gone from the broker, but the ledger has offsets of it: see docs/runbook.md "
            "(topic recreated). On a laptop `make clean` starts anew"
        )


def _send_history(instance: Instance) -> int:
    """Sends the real orders; returns the weeks that they were moved by."""
    from local import history
    from local.simulator import replay

    with step("Real history to Kafka") as say:
        in_original_time = instance.settings.get("MADHATTER_HISTORY") == "original"
        weeks = 0 if in_original_time else replay.shift_weeks(datetime.now(UTC).date())
        sent = history.send(instance.bootstrap, replay.TOPIC, weeks)
        query(
            instance,
            "insert into ops.history (topic, shift_weeks, events, lines, sent_ts) values (%s, %s, %s, %s, sysdate())",
            (replay.TOPIC, sent.weeks, sent.events, sent.lines),
        )
        kept = f"; {sent.kept:,} of them were there from a start that was broken off" if sent.kept else ""
        say(f"{sent.events:,} orders, {sent.lines:,} lines, moved by {sent.weeks} weeks{kept}")
    return sent.weeks


def _send_market(instance: Instance, weeks: int) -> None:
    """What the other topics had during the history, thin, and the market from its end up to now. It ends at an instant
    that is kept, with where the log ended before it: a sending that was broken off goes on where it stopped."""
    from include.contracts.contract import topics
    from local.simulator import preload
    from local.simulator.account import Account
    from local.simulator.log import Left
    from madhatter import kafka

    known = _market(instance)
    if known.get("events"):
        return
    folder = instance.settings.get("MADHATTER_ACCOUNT")
    with step("Market up to now to Kafka") as say:
        bootstrap = instance.bootstrap
        if "began" not in known:
            ends = kafka.read_log(kafka.admin({"bootstrap.servers": bootstrap}), topics(), datetime.now(UTC))
            began = [[topic, partition, log.stable_end] for (topic, partition), log in ends.items()]
            known = {"until_ms": int(time.time()) * 1000, "began": began}
            _note_market(instance, known)
        sent = preload.load(
            bootstrap,
            weeks,
            known["until_ms"],
            account=Account(Path(folder), run="before-live") if folder else None,
            left=Left(bootstrap, {(topic, partition): end for topic, partition, end in known["began"]}),
            handover=instance.handover,
        )
        _note_market(instance, known | {"events": sent.events})
        kept = f"; {sent.kept:,} of them were there from a start that was broken off" if sent.kept else ""
        say(f"{sent.events:,} events of all topics{kept}")


def _market(instance: Instance) -> dict[str, Any]:
    """until_ms: where the market that was sent ends; began: [topic, partition, offset] from which on it is in the log;
    events: how many, once all of them are there."""
    note = instance.data / MARKET_NOTE
    found: dict[str, Any] = json.loads(note.read_text()) if note.exists() else {}
    return found


def _note_market(instance: Instance, known: dict[str, Any]) -> None:
    note = instance.data / MARKET_NOTE
    writing = note.with_suffix(".writing")
    writing.write_text(json.dumps(known))
    writing.replace(note)


def finish(instance: Instance) -> None:
    """The history as one slice, then the DAGs unpaused and live traffic started; ends with the table."""
    api = AirflowApi(instance.url("airflow"), "admin", instance.secrets.admin_password)
    with step("History through the pipeline") as say:
        if not api.knows("retail_backfill", HISTORY_RUN) and _is_history_visible(instance):
            say("done before")
        else:
            _run_history(api, say)
    if errors := api.import_errors():
        raise RuntimeError("DAG files that Airflow cannot read:\n" + "\n".join(errors))
    with step("DAGs, collector, live traffic") as say:
        # The consumer first: events for a paused DAG are lost, and only the next sweep would find them.
        for dag in ("retail_daily", "platform_health", "retail_hourly", "alert_response", "retail_stream"):
            api.unpause(dag)
        services.start(instance, services.edge(instance))
        health.wait_ready(instance, [services.COLLECTOR], 60, say)
    print(f"\n{report(instance)}")


def _is_history_visible(instance: Instance) -> bool:
    """Whether the ledger has the history: Airflow forgets its run some day (MADHATTER_KEEP_AIRFLOW_DAYS), the log its
    offsets, and it must not be run again."""
    committed = query(instance, "select slice_id from ops.slice where kind = 'backfill' and state = 'committed'")
    if not committed:
        return False
    from madhatter.backfill import backfill_id  # takes more than a second

    return backfill_id(HISTORY_RUN) in {row["slice_id"] for row in committed}


def _run_history(api: AirflowApi, say: Say) -> None:
    """Triggers the backfill once and waits for its end. Raises RuntimeError that names the failed tasks."""
    deadline = time.monotonic() + PIPELINE_TIMEOUT_S
    while (run := api.trigger_once("retail_backfill", HISTORY_RUN)) is None:
        say("waiting for the DAG processor")
        _wait(deadline, "the DAG processor has not read retail_backfill; see make logs S=airflow-dag-processor")
    told: set[tuple[str, int]] = set()
    while run["state"] not in ("success", "failed"):
        for failure in api.failures("retail_backfill", HISTORY_RUN):
            if failure.is_retried and (failure.task_id, failure.number) not in told:
                told.add((failure.task_id, failure.number))
                note(f"{failure.task_id} failed, and is tried again: {failure.error}\n        Its log: {failure.log}")
        say(", ".join(api.active_tasks("retail_backfill", HISTORY_RUN)) or run["state"])
        _wait(deadline, "the history is still on its way; see retail_backfill in the Airflow UI")
        run = api.run("retail_backfill", HISTORY_RUN)
    if run["state"] == "failed":
        failed = [f"{f.task_id}: {f.error}\nIts log: {f.log}" for f in api.failures("retail_backfill", HISTORY_RUN)]
        raise RuntimeError("\n".join(["retail_backfill failed. Clear it in the Airflow UI once mended.", *failed]))
    say("")


def _wait(deadline: float, failure: str) -> None:
    if time.monotonic() > deadline:
        raise RuntimeError(f"{failure} ({PIPELINE_TIMEOUT_S} s)")
    time.sleep(0.5)


def report(instance: Instance) -> str:
    """Events sent, delivered, published, duplicates, rejected; seconds per stage; whether all of it adds up."""
    history = query(instance, "select shift_weeks, events from ops.history")
    counts = query(
        instance,
        "select kind, count(*) as slices, sum(delivered) as delivered, sum(published) as published, "
        "sum(duplicates) as duplicates, sum(dead_letters) as rejected, sum(plan_s) as plan, "
        "sum(transform_s) as transform, sum(stage_s) as stage, sum(audit_s) as audit, sum(publish_s) as publish "
        "from reporting.slice_status where state = 'committed' group by kind order by kind",
    )
    columns = ["slices of", "n", "sent", "delivered", "published", "duplicates", "rejected"]
    columns += ["plan s", "transform s", "stage s", "audit s", "publish s"]
    rows: list[list[Any]] = []
    for row in counts:
        is_history = history and row["kind"] == "backfill"
        sent = history[0]["events"] + _market(instance)["events"] if is_history else None
        rows.append([row.pop("kind"), row.pop("slices"), sent, *row.values()])
    balanced = query(instance, "select count_if(not is_balanced) as wrong, count(*) as n from ops.reconciliation")[0]
    verdict = "balanced in all" if not balanced["wrong"] else f"NOT balanced in {balanced['wrong']} of"
    shift = [f" The history (2010-12-01 to 2011-12-09) is shown {row['shift_weeks']} weeks later." for row in history]
    return f"{table.text(columns, rows)}\n{verdict} {balanced['n']} partitions.{''.join(shift)}"
