"""A slice that breaks its rules, from the red task to a person's decision; and requests that no DAG understands."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import datetime
from typing import Any

import pytest

from local.simulator.producer import open_producer
from tests.bad_events import GOOD
from tests.platform import Platform, until

GIFTS = 3000  # most of a window's orders, whatever the simulator sends beside them


def trigger(platform: Platform, dag_id: str, **body: Any) -> str:
    """Triggers a DAG as the form does; returns the run's id. Raises HTTPError with what the form would show."""
    request = {"logical_date": None, **body}
    return str(platform.api._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", request)["dag_run_id"])


def ended(platform: Platform, dag_id: str, run_id: str) -> str:
    def state() -> str:
        return str(platform.api.run(dag_id, run_id)["state"])

    return str(until(lambda: state() in ("success", "failed") and state(), f"{dag_id} {run_id} ends"))


def test_held_slice_is_published_by_a_persons_decision(platform: Platform) -> None:
    producer = open_producer(platform.bootstrap, {})
    for number in range(GIFTS):
        name = f"GIFT{number}"
        lines = [{**line, "unit_price": 0} for line in GOOD["lines"]]
        event = GOOD | {"event_id": f"order:{name}", "order_id": name, "order_type": "gift", "lines": lines}
        producer.produce("sales.orders", json.dumps(event).encode(), b"gifts")
    assert producer.flush(30) == 0
    (held, *_) = until(
        lambda: platform.sql("select slice_id, audit_result from reporting.slice_status where state = 'held'"),
        "the window with the gifts is held",
        300,
    )
    slice_id = held["slice_id"]
    assert "order_header: most_orders_are_sales" in held["audit_result"]
    window = datetime.strptime(slice_id, "hour-%Y%m%dt%H%M%S").isoformat()
    (red,) = until(
        lambda: [r for r in platform.api.runs("retail_hourly", state="failed") if r["partition_key"] == window],
        "its run has failed",
    )
    path = f"/api/v2/dags/retail_hourly/dagRuns/{red['dag_run_id']}/taskInstances/audit/links"
    links = platform.api._call("GET", path)["extra_links"]
    assert links == {"Audit page": f"/dashboards/audit/{slice_id}"}
    cookie = {"Cookie": f"_token={platform.api._token}"}
    with urllib.request.urlopen(
        urllib.request.Request(f"{platform.airflow_url.rstrip('/')}{links['Audit page']}", headers=cookie), timeout=30
    ) as page:
        assert "Held: 1 rule of severity error broken" in page.read().decode()

    decision = {"slice_id": slice_id, "reason": "The shop gives calendars away."}
    assert ended(platform, "force_publish", trigger(platform, "force_publish", conf=decision)) == "success"

    (status,) = platform.sql("select * from reporting.slice_status where slice_id = %s", slice_id)
    assert (status["state"], status["forced_by"], status["forced_reason"]) == ("committed", "admin", decision["reason"])
    assert platform.one("select count(*) from core.order_header where order_id like 'GIFT%%'") == GIFTS
    again = trigger(platform, "force_publish", conf=decision)
    assert ended(platform, "force_publish", again) == "failed"
    (failure,) = platform.api.failures("force_publish", again)
    assert f"slice {slice_id} is committed: only a held one" in failure.error


@pytest.mark.parametrize(
    ("dag_id", "body", "words"),
    [
        ("retail_hourly", {}, "is no window: trigger with one such as"),
        ("retail_hourly", {"partition_key": "2020-01-01T00:00:30"}, "is no window that has begun"),
        ("retail_daily", {}, "is no day: trigger with one such as"),
        ("retail_daily", {"partition_key": "2099-01-01"}, "is no day that is over"),
        ("retail_hourly", {"conf": {"from": "2026-01-01"}}, "has no parameter from; it takes none"),
        ("retail_backfill", {"conf": {"slice": 7}}, "has no parameter slice; it takes from, mode, source, to"),
        ("retail_backfill", {"conf": {"mode": "replay", "from": "yesterday"}}, "from='yesterday' is no time such as"),
        ("retail_backfill", {"conf": {"mode": "replay"}}, "replay needs `from` and `to`"),
        (
            "retail_backfill",
            {"conf": {"mode": "replay", "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}},
            "from=2026-01-02 00:00:00 is not before to=2026-01-01 00:00:00",
        ),
        (
            "retail_backfill",
            {"conf": {"mode": "replay", "from": "2026-01-02T00:00:00Z", "to": "2099-01-01T00:00:00Z"}},
            "to=2099-01-01 00:00:00 is in the future",
        ),
    ],
)
def test_request_that_a_dag_cannot_serve_fails_at_its_start_with_words(
    platform: Platform, dag_id: str, body: dict[str, Any], words: str
) -> None:
    run_id = trigger(platform, dag_id, **body)
    assert ended(platform, dag_id, run_id) == "failed"
    (failure,) = platform.api.failures(dag_id, run_id)
    assert words in failure.error
    assert not failure.is_retried


@pytest.mark.parametrize(
    ("dag_id", "body", "words"),
    [
        ("force_publish", {"conf": {"slice_id": "yesterday", "reason": "It is fine."}}, "param slice_id"),
        ("force_publish", {"conf": {"slice_id": "hour-20261123t100000", "reason": ""}}, "param reason"),
        ("retail_daily", {"partition_key": "yesterday"}, "does not match format"),
        ("retail_backfill", {"partition_key": "2026-01-01"}, "not a partitioned Dag"),
        ("retail_backfill", {"conf": {"mode": "again"}}, "param mode"),
        ("retail_backfill", {"conf": {"source": "tape"}}, "param source"),
    ],
)
def test_request_that_a_form_can_judge_is_refused_there(
    platform: Platform, dag_id: str, body: dict[str, Any], words: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        trigger(platform, dag_id, **body)
    assert refused.value.code == 400
    assert words in refused.value.read().decode()
