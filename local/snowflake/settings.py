"""Session parameters: those that mean something here, those that change no result, and no others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from local.snowflake.errors import error, refused

# No effect on any result here: accepted and shown back.
_INERT = frozenset(
    {
        "QUERY_TAG", "STATEMENT_QUEUED_TIMEOUT_IN_SECONDS", "USE_CACHED_RESULT", "ABORT_DETACHED_QUERY",
        "CLIENT_SESSION_KEEP_ALIVE", "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "CLIENT_PREFETCH_THREADS",
        "CLIENT_RESULT_CHUNK_SIZE", "CLIENT_TELEMETRY_ENABLED", "CLIENT_STORE_TEMPORARY_CREDENTIAL",
        "CLIENT_REQUEST_MFA_TOKEN", "CLIENT_CONSENT_CACHE_ID_TOKEN", "CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED",
        "CLIENT_VALIDATE_DEFAULT_PARAMETERS", "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT", "CLIENT_MEMORY_LIMIT",
        "SNOWPARK_REQUEST_TIMEOUT_IN_SECONDS", "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD",
    }
)  # fmt: skip
# Accepted with the one value that says what the stand-in does.
_FIXED: dict[str, frozenset[str]] = {
    "TIMEZONE": frozenset({"UTC", "ETC/UTC"}),
    "TIMESTAMP_TYPE_MAPPING": frozenset({"TIMESTAMP_NTZ"}),
    "WEEK_START": frozenset({"0", "1"}),
    "QUOTED_IDENTIFIERS_IGNORE_CASE": frozenset({"FALSE"}),
    "ERROR_ON_NONDETERMINISTIC_MERGE": frozenset({"TRUE"}),
    "ERROR_ON_NONDETERMINISTIC_UPDATE": frozenset({"FALSE"}),
    "TRANSACTION_ABORT_ON_ERROR": frozenset({"FALSE"}),
    "MULTI_STATEMENT_COUNT": frozenset({"1"}),
    "PYTHON_CONNECTOR_USE_NANOARROW": frozenset({"TRUE", "FALSE"}),
}


@dataclass
class Settings:
    """A session's parameters. lock_timeout_s and statement_timeout_s have Snowflake's defaults (12 h, 2 days)."""

    autocommit: bool = True
    lock_timeout_s: float = 43_200
    statement_timeout_s: float = 172_800
    query_tag: str = ""
    others: dict[str, str] = field(default_factory=dict)

    def set(self, name: str, value: Any) -> None:
        """Set one parameter. Raises for a parameter, or a value, that would be ignored silently."""
        name, text = name.upper(), str(value)
        try:
            if name == "AUTOCOMMIT":
                self.autocommit = _boolean(text)
            elif name == "LOCK_TIMEOUT":
                self.lock_timeout_s = float(text)
            elif name == "STATEMENT_TIMEOUT_IN_SECONDS":
                self.statement_timeout_s = float(text) or 604_800  # 0 is Snowflake's maximum
            elif name == "QUERY_TAG":
                self.query_tag = text
            elif name in _FIXED:
                if text.upper() not in _FIXED[name]:
                    raise refused(f"{name} = {text}", f"Here it is always one of {', '.join(sorted(_FIXED[name]))}.")
                self.others[name] = text
            elif name in _INERT:
                self.others[name] = text
            else:
                raise error(1420, "22023", f"invalid parameter '{name}' for ALTER SESSION on the stand-in.")
        except ValueError as e:
            raise error(1008, "22023", f"Invalid value '{text}' for parameter {name}.") from e

    def alter(self, statement: exp.Alter) -> None:
        """Apply ALTER SESSION SET name = value ... | UNSET name ..."""
        session = statement.find(exp.AlterSession)
        if session is None:
            raise error(1003, "42000", "SQL compilation error: ALTER SESSION needs SET or UNSET.")
        for item in session.expressions:
            if session.args.get("unset"):
                self._unset(item.name)
            elif isinstance(item.this, exp.EQ):
                value = item.this.expression
                self.set(
                    item.this.this.name, value.this if isinstance(value, exp.Boolean) else value.name or value.sql()
                )

    def _unset(self, name: str) -> None:
        defaults = Settings()
        attribute = {
            "AUTOCOMMIT": "autocommit",
            "LOCK_TIMEOUT": "lock_timeout_s",
            "STATEMENT_TIMEOUT_IN_SECONDS": "statement_timeout_s",
            "QUERY_TAG": "query_tag",
        }.get(name.upper())
        if attribute:
            setattr(self, attribute, getattr(defaults, attribute))
        self.others.pop(name.upper(), None)


def _boolean(text: str) -> bool:
    if text.upper() not in {"TRUE", "FALSE"}:
        raise ValueError(text)
    return text.upper() == "TRUE"
