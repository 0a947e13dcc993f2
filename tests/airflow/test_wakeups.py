"""An alert with an action wakes Airflow, which does it once."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from include import alerts
from include.alerts import Alert
from tests.airflow.small import SmallAirflow, until


def fraud(order_id: str) -> Alert:
    return Alert(
        alert_id=alerts.alert_id("fraud", f"order:{order_id}", ""),
        source="fraud_detection",
        kind="fraud",
        severity="critical",
        subject=f"order:{order_id}",
        title=f"Order {order_id} looks like fraud",
        reasons=["It does."],
        action="hold_order",
        state="open",
        raised_ts=datetime.now(UTC),
        details={"order_ids": [order_id]},
    )


def publish(airflow: SmallAirflow, alert: Alert) -> None:
    airflow.live.publish(alerts.TOPIC, alerts.encode(alert), kind=alert.kind, severity=alert.severity)


def held(airflow: SmallAirflow) -> list[str]:
    return sorted(row["order_id"] for row in airflow.sql("select order_id from ops.held_order"))


def test_alert_that_is_published_holds_the_order_once(airflow: SmallAirflow) -> None:
    until(lambda: airflow.api.runs("alert_response") is not None, "alert_response is known")
    airflow.api.unpause("alert_response")
    for _ in range(3):
        publish(airflow, fraud("A1"))
    until(lambda: held(airflow) == ["A1"], "the order is held")
    for number in range(5):
        publish(airflow, fraud(f"B{number}"))
    until(lambda: len(held(airflow)) == 6, "all orders are held")
    (one,) = airflow.sql("select * from ops.alert where subject = 'order:A1'")
    assert (one["state"], one["times_raised"]) == ("acknowledged", 3)
    assert one["handled_by"].startswith("alert_response ")


def test_alert_whose_message_never_came_is_handled_by_the_watch(airflow: SmallAirflow) -> None:
    airflow.api.pause("alert_response")  # what woke it before may wake it again
    until(lambda: airflow.api.runs("alert_response", state="running") == [], "nobody responds to what came before")
    own = fraud("LOST")
    airflow.sql(
        "insert into ops.alert (alert_id, source, kind, severity, subject, title, reasons, action, state, details, "
        "raised_ts, booked_ts) select :id, 'test', 'fraud', 'critical', 'order:LOST', 'Look', '[]', 'hold_order', "
        "'open', :details, sysdate(), sysdate()",
        id=own.alert_id,
        details=json.dumps(own.details),
    )
    assert airflow.run("watches", "sweep") == "success"
    assert "LOST" in held(airflow)
    (one,) = airflow.sql("select handled_by from ops.alert where subject = 'order:LOST'")
    assert one["handled_by"].startswith("watches sweep ")
    airflow.api.unpause("alert_response")


def test_triggerer_and_pubsub_that_are_killed_lose_no_alert(airflow: SmallAirflow) -> None:
    airflow.kill("airflow-triggerer")
    publish(airflow, fraud("C1"))
    airflow.launch("airflow-triggerer")
    until(lambda: "C1" in held(airflow), "the order is held")
    airflow.live.pubsub.end()
    airflow.live.pubsub.start()
    publish(airflow, fraud("C2"))
    until(lambda: "C2" in held(airflow), "the order is held")
