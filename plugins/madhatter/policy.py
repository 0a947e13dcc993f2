"""What every DAG shares: owner, retries, limits. One place, applied to all."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

DEFAULT_ARGS: dict[str, Any] = {
    "owner": "data-platform",
    # A broker, warehouse or scheduler that restarts is back within a minute: short first, then patient.
    "retries": 6,
    "retry_delay": timedelta(seconds=5),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=5),
    "execution_timeout": timedelta(hours=2),
}
