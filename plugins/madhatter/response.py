"""The response to alerts: hold the order, draft the reorder, open the incident, each exactly once.

`ops.alert` is the truth: what has an action and no handled_ts is to be done, so there is no watermark that could be
lost. Who sets handled_ts does it, in the same transaction; two who meet, or alert_book, take turns at ops.alert_lock.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetWatcher, BaseOperator, Context
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

if TYPE_CHECKING:
    from madhatter.warehouse import Row, Warehouse

SUBSCRIPTION = "alert-response"
MOST = 100  # alerts of a transaction, messages of a pull
PULL_S = 30.0
LONGEST_PAUSE_S = 30.0
BOOKED_WITHIN_S = 30.0  # the hint may come before alert_book has written the row


class AlertPublished(BaseEventTrigger):
    """Fires {"alerts": [ids]} for open alerts with an action that are published. A hint: Pub/Sub is asked for as long
    as the triggerer runs, and what is wrong with it is waited out."""

    def __init__(self, subscription: str = SUBSCRIPTION, gcp_conn_id: str = "google_cloud_default") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.subscription, self.gcp_conn_id = subscription, gcp_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        kwargs = {"subscription": self.subscription, "gcp_conn_id": self.gcp_conn_id}
        return "madhatter.response.AlertPublished", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        pause_s = 1.0
        while True:
            try:
                client, path = await self._client()
                while True:
                    received = await _pull(client, path)
                    pause_s = 1.0
                    if ids := {alert_id for one in received if (alert_id := _to_respond(one.message.data))}:
                        yield TriggerEvent({"alerts": sorted(ids)})  # type: ignore[no-untyped-call]
                    if received:
                        await client.acknowledge(subscription=path, ack_ids=[one.ack_id for one in received])
                        await asyncio.sleep(1)  # a burst of alerts is one run
            except Exception as error:
                # Whatever it is: a watcher that ends is not started again soon, and the rows wait for nobody.
                self.log.warning("no alerts from %s, asking again: %s", self.subscription, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _client(self) -> tuple[Any, str]:
        """The hook's client, whose own pull would write a line at each look; the subscription's path."""
        # The import takes a second: not in the triggerer's event loop.
        hook = (await asyncio.to_thread(_import_hook))(gcp_conn_id=self.gcp_conn_id)
        project = (await hook.get_sync_hook()).project_id
        return await hook._get_subscriber_client(), f"projects/{project}/subscriptions/{self.subscription}"


def _import_hook() -> Any:
    from airflow.providers.google.cloud.hooks.pubsub import PubSubAsyncHook

    return PubSubAsyncHook


async def _pull(client: Any, path: str) -> list[Any]:
    """Messages, when there are some or after a while. An answer that takes too long is one without messages."""
    from google.api_core.exceptions import DeadlineExceeded

    try:
        reply = await client.pull(subscription=path, max_messages=MOST, timeout=PULL_S, retry=None)
    except DeadlineExceeded:
        return []
    return list(reply.received_messages)


def _to_respond(body: bytes) -> str | None:
    """The id of an open alert with an action. What is no alert is alert_book's to refuse."""
    import msgspec

    from include import alerts

    try:
        alert = alerts.decode(body)
    except msgspec.MsgspecError:
        return None
    return alert.alert_id if alert.state == "open" and alert.action != "none" else None


published = Asset(
    name="alert_published",
    uri="x-madhatter://alert_published",
    watchers=[AssetWatcher(name="alert_published", trigger=AlertPublished())],
)


class RespondToAlerts(BaseOperator):
    """Does what open alerts ask for; waits a little for those that the run was started for to be booked. Returns the
    ids of those that were handled."""

    def __init__(self, *, booked_within_s: float = BOOKED_WITHIN_S, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.booked_within_s = booked_within_s

    def execute(self, context: Context) -> list[str]:
        from madhatter import warehouse

        hinted, who, done = hinted_in(context), name_of(context), list[str]()
        deadline = time.monotonic() + self.booked_within_s
        with warehouse.session(context) as session:
            while True:
                done += respond(session, who)
                missing = not_booked(session, hinted)
                if not missing or time.monotonic() > deadline:
                    break
                time.sleep(0.25)
        if missing:
            self.log.warning("not booked within %.0f s: %s; platform_health looks again", self.booked_within_s, missing)
        return done


def hinted_in(context: Context) -> list[str]:
    """The ids in the events that started the run."""
    events = context.get("triggering_asset_events") or {}
    payloads = [event.extra.get("payload") or {} for own in events.values() for event in own]
    return sorted({alert_id for payload in payloads for alert_id in payload.get("alerts", [])})


def name_of(context: Context) -> str:
    """Who handles alerts: no two tries have the same name."""
    ti = context["ti"]
    return f"{ti.dag_id} {ti.run_id} {ti.try_number}"[:256]


def not_booked(warehouse: Warehouse, ids: list[str]) -> list[str]:
    """Those of the ids that ops.alert does not have."""
    if not ids:
        return []
    rows = warehouse.rows(f"select alert_id from ops.alert where alert_id in ({_AMONG})", ids=json.dumps(ids))
    return sorted(set(ids) - {row["alert_id"] for row in rows})


_AMONG = "select value::varchar from table(flatten(input => parse_json(:ids)))"


def respond(warehouse: Warehouse, who: str) -> list[str]:
    """Handles all alerts that wait for it, some at a time; returns their ids."""
    done: list[str] = []
    while True:
        waiting = warehouse.rows(
            "select alert_id from ops.alert where action <> 'none' and handled_ts is null and state <> 'resolved' "
            "order by booked_ts, alert_id limit :most",
            most=MOST,
        )
        if not waiting:
            return done
        done += _handle(warehouse, [row["alert_id"] for row in waiting], who)


def _handle(warehouse: Warehouse, ids: list[str], who: str) -> list[str]:
    """Handles these alerts in one transaction, but for those that another one has handled."""
    with warehouse.transaction():
        # First of all: who comes second waits here, and finds them handled.
        warehouse.run("update ops.alert_lock set taken = taken + 1")
        warehouse.run(
            "update ops.alert set handled_ts = sysdate(), handled_by = :who, state = 'acknowledged', "
            "acknowledged_ts = coalesce(acknowledged_ts, sysdate()) "
            f"where handled_ts is null and state <> 'resolved' and alert_id in ({_AMONG})",
            who=who,
            ids=json.dumps(ids),
        )
        own = warehouse.rows(
            f"select * from ops.alert where handled_by = :who and alert_id in ({_AMONG})", who=who, ids=json.dumps(ids)
        )
        orders = [[row["alert_id"], order] for row in own if row["action"] == "hold_order" for order in orders_of(row)]
        if orders:
            warehouse.run_file("ops/held_order.sql", orders=json.dumps(orders), who=who)
        shelves = [shelf for row in own if row["action"] == "draft_reorder" if (shelf := shelf_of(row))]
        if shelves:
            warehouse.run_file("ops/reorder_draft.sql", shelves=json.dumps(shelves), who=who)
        incidents = [row["alert_id"] for row in own if row["action"] == "open_incident" or not _is_clear(row)]
        if incidents:
            warehouse.run_file("ops/incident.sql", ids=json.dumps(incidents), who=who)
    return [row["alert_id"] for row in own]


def orders_of(row: Row) -> list[str]:
    """The orders that an alert is about, each once."""
    found = _details(row).get("order_ids")
    return sorted({str(one) for one in found}) if isinstance(found, list) else []


def shelf_of(row: Row) -> list[Any] | None:
    """Alert, warehouse, product and pieces of an alert about a shelf. Pieces None: as the mart says."""
    details = _details(row)
    place = [details.get(name) for name in ("warehouse_id", "product_id")]
    if not all(isinstance(one, str) and one for one in place):
        return None
    quantity = details.get("quantity")
    return [row["alert_id"], *place, quantity if isinstance(quantity, int) and quantity > 0 else None]


def _is_clear(row: Row) -> bool:
    """Whether an alert says what its action is to be done to; people look at one that does not."""
    if row["action"] == "hold_order":
        return bool(orders_of(row))
    return row["action"] != "draft_reorder" or shelf_of(row) is not None


def _details(row: Row) -> dict[str, Any]:
    found = json.loads(row["details"] or "{}")
    return found if isinstance(found, dict) else {}
