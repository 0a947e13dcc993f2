"""What a function logs: one JSON object a line, with the names that Cloud Logging reads."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Any


class JsonLines(logging.Formatter):
    """`extra={"request": {...}}` of a record adds its fields; with `trace_id` among them Cloud Logging shows together
    what one event has caused, in whichever function."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "request", {})
        entry = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z",
            "severity": record.levelname,
            "message": record.getMessage(),
            **fields,
        }
        if trace_id := fields.get("trace_id"):
            project = os.environ.get("MADHATTER_PROJECT", "madhatter")
            entry["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace_id}"
        if record.exc_info:
            entry["message"] += "\n" + self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def logger(name: str) -> logging.Logger:
    """A function's log, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    log = logging.getLogger(name)
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    return log
