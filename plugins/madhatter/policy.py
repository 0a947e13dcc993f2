"""What every DAG shares: owner, retries, limits, the look of its page. One place, applied to all."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk import Context


def refuse_unknown(context: Context) -> None:
    """Fails a task for good when its run was triggered with a configuration that the DAG has no parameter for: Airflow
    itself checks known ones only, and a word that nobody reads looks as if it had been heeded."""
    given, known = set(context["dag_run"].conf or {}), set(context["dag"].params)
    if unknown := sorted(given - known):
        takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none: trigger it with {}"
        raise AirflowFailException(f"{context['dag'].dag_id} has no parameter {', '.join(unknown)}; {takes}")


def alert_failure(context: Context) -> None:
    """Raises the alert of a task that has failed for good; loaded when it is needed."""
    from madhatter import alerts

    alerts.alert_failure(context)


def alert_run_failure(context: Context) -> None:
    """The same when a run has failed, for a task whose process was killed."""
    from madhatter import alerts

    alerts.alert_run_failure(context)


# Without them the shop has no figures: a failure is an incident.
CRITICAL_DAGS = {"retail_hourly", "retail_daily", "retail_stream"}
# Their runs go on for as long as all is well.
ENDLESS_DAGS = {"retail_stream"}

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "data-platform",
    # A broker, warehouse or scheduler that restarts is back within a minute: short first, then once a minute.
    "retries": 12,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=1),
    "execution_timeout": timedelta(hours=2),
    "pre_execute": refuse_unknown,
    "on_failure_callback": alert_failure,
}


def page(docstring: str | None) -> dict[str, Any]:
    """`doc_md` and `description` of a DAG from its file's docstring: the first line is the description; a paragraph
    that starts with a label and two blanks (`Reads   ...`) shows the label in bold. Beside it what DEFAULT_ARGS cannot
    say: who is told when a run fails."""
    text = (docstring or "").strip()
    labelled = re.sub(r"^(\S(?:.*?\S)?)  +", r"\n**\1** ", text, flags=re.MULTILINE)
    return {
        "doc_md": labelled,
        "description": text.splitlines()[0],
        "on_failure_callback": alert_run_failure,
    }
