"""The live loader: puts the minutes that the streaming job writes every 10 s into the live tables.

    python -m functions_framework --target live_loader --source include/functions/live_loader/main.py

Pushed to from `live.batches`, a notice of each file. One that names no file of ours, or whose file is gone or broken,
is refused in words and ends as a dead letter; the minutes of the next file are the newer ones anyway.
"""

from __future__ import annotations

import os
from typing import Any

from include.functions import pushed
from include.functions.live_loader import load
from include.functions.live_loader.load import Unfit
from include.functions.pushed import Message, Refused
from include.functions.warehouse import warehouse

NAME = "live_loader"


def _store() -> str:
    store = os.environ.get("MADHATTER_STORE", "")
    if "://" not in store or "'" in store or "\\" in store:
        raise SystemExit(
            f"{NAME}: MADHATTER_STORE={store!r} is no URI such as gs://bucket/data, without quotes and backslashes: "
            "give the one where the streaming job writes"
        )
    return store.rstrip("/")


STORE, WAREHOUSE = _store(), warehouse(NAME)


def take(message: Message, fields: dict[str, Any]) -> None:
    """Raises Refused, Passing."""
    notice = message.decode(load.decode, "notice of a batch")
    fields |= {"batch_id": notice.batch_id, "rows": notice.rows, "version": notice.version}
    try:
        WAREHOUSE.transaction(lambda session: load.load(session, STORE, notice))
    except Unfit as error:
        raise Refused(str(error)) from error


live_loader = pushed.function(NAME, take)
