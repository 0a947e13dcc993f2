"""Stream: keeps exactly one streaming job `live` of the right version.

Reads   the Dataflow jobs named `live`; the template include/beam/templates/live.json; the warehouse, for a snapshot of
        customers, products and shelves at each launch.
Writes  <store>/live/snapshots; by the job: minutes for `live.*`, signals to Pub/Sub.

On failure  it has given up: as many jobs failed in a row as MADHATTER_STREAM_TRIES says. Each error is in the task's
            log and on the job's page. Mend the cause, then unpause this DAG. Nothing is lost while the log keeps what
            arrived: the next job reads on where minutes were final.
"""

from __future__ import annotations

from datetime import UTC, datetime

from airflow.sdk import DAG

from madhatter.policy import DEFAULT_ARGS, page
from madhatter.settings import settings
from madhatter.stream import KeepStream

# A run is one version of the job. It lasts until another one is due, and the next run follows at once; a cron would
# leave the stream alone until its next tick. The run fails only when it has given up: then Airflow pauses the DAG,
# which else would try again for ever.
# start_date: any moment that is over. Without one Airflow 3.3.2 gives the first run an interval without a length, and
# the second one the same date, which it then refuses, once a second and for ever.
with DAG(
    "retail_stream",
    **page(__doc__),
    schedule="@continuous" if settings().stream else None,
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    max_consecutive_failed_dag_runs=1,
    default_args=DEFAULT_ARGS,
    tags=["retail", "live"],
):
    # Whatever Airflow or Dataflow trouble there is, it is over some day, and the job most likely runs on.
    KeepStream(task_id="live", retries=10_000)
