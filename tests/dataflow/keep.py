"""`python -m tests.dataflow.keep SINCE`: KeepStream as in Airflow, in a run that began then; prints as operate does."""

from __future__ import annotations

import sys
from datetime import datetime
from types import SimpleNamespace

from madhatter.stream import KeepStream
from tests.dataflow.operate import walk


def main(since: str) -> None:
    context = {
        "dag_run": SimpleNamespace(start_date=datetime.fromisoformat(since)),
        "ti": SimpleNamespace(dag_id="retail_stream", task_id="live", run_id="run"),
    }
    walk(KeepStream(task_id="live"), context)


if __name__ == "__main__":
    main(*sys.argv[1:])
