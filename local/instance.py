"""One platform on this machine: its state folder, its ports, its secrets, the environment of its processes."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import sys
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from include.contracts.contract import topics
from local.connections import read_settings, snowflake_arguments

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
DEFAULT_PORT_BASE = 18000
# Ports of an instance, relative to its PORT_BASE.
OFFSETS = {
    "supervisor": 1,
    "fraud_detection": 60,
    "inventory_alert": 61,
    "personal_offer": 62,
    "pipeline_monitor": 63,
    "live_loader": 64,
    "event_validation": 65,
    "alert_book": 66,
    "airflow": 80,
    "warehouse": 84,
    "dataflow": 85,
    "dataflow_grpc": 86,
    "collector": 87,
    "pubsub": 88,
    "pubsub_http": 89,
    "kafka": 92,
    "kafka_controller": 93,
    "kafka-2": 94,
    "kafka-2_controller": 95,
    "kafka-3": 96,
    "kafka-3_controller": 97,
}
BROKERS = ("kafka", "kafka-2", "kafka-3")
# One broker, or three: two of three carry on without the third; of two, none would without the other.
BROKER_COUNTS = (1, len(BROKERS))
# The Cloud Functions that Pub/Sub pushes to.
FUNCTIONS = (
    "fraud_detection",
    "inventory_alert",
    "personal_offer",
    "pipeline_monitor",
    "live_loader",
    "event_validation",
    "alert_book",
)
PROJECT = "madhatter"  # as airflow_settings.yaml has it
PUSH_ACCOUNT = f"push@{PROJECT}.iam.gserviceaccount.com"
# What of the caller's environment reaches no process of the platform: another Airflow's or Python project's settings.
FOREIGN = ("AIRFLOW", "PYTHON", "SNOWFLAKE_", "VIRTUAL_ENV", "SUPERVISOR_", "MAKE", "MFLAGS")
OWN = ("MADHATTER_", "PLATFORM_START", "PORT_BASE", "BROKERS")


class BrokenInstance(ValueError):
    """instance.json cannot be used: which file, why, what to do."""


@dataclass(frozen=True)
class Secrets:
    """What is made once at the first start and kept in instance.json (mode 0600). platform_start: UTC, on the hour."""

    admin_password: str
    api_secret: str
    collector_key: str
    cluster_id: str
    fernet_key: str
    jwt_secret: str
    platform_start: str
    supervisor_password: str


@dataclass(frozen=True)
class Instance:
    """home: the state folder (absolute). port_base: all ports are this plus a fixed offset. brokers: 1 or 3."""

    home: Path
    port_base: int = DEFAULT_PORT_BASE
    brokers: int = 1

    @classmethod
    def current(cls) -> Instance:
        """The instance that MADHATTER_HOME and PORT_BASE name; by default `.local/` in the repository, and the ports it
        had last, at first 18000. It keeps the brokers with which it began: BROKERS at its first start, by default one.

        Raises SystemExit with a sentence when PORT_BASE or BROKERS is no usable number.
        """
        home = Path(os.environ.get("MADHATTER_HOME") or ROOT / ".local").expanduser().absolute()
        text = os.environ.get("PORT_BASE") or stored_port_base(home) or str(DEFAULT_PORT_BASE)
        if not text.isdecimal() or not 1024 <= int(text) <= 65_000:
            raise SystemExit(f"PORT_BASE={text}: give a number from 1024 to 65000, for example PORT_BASE=28000")
        asked = os.environ.get("BROKERS") or "1"
        if asked not in map(str, BROKER_COUNTS):
            raise SystemExit(f"BROKERS={asked}: give 1, or 3 for a platform that a broker's death does not stop")
        return cls(home, int(text), int(stored_brokers(home) or asked))

    @property
    def env(self) -> Path:
        """The folder of the environments: the running interpreter's, so that instances share one installation."""
        return Path(sys.prefix).parent

    @property
    def platform_python(self) -> Path:
        return self.env / "platform" / "bin" / "python"

    @property
    def warehouse_python(self) -> Path:
        return self.env / "warehouse" / "bin" / "python"

    @property
    def run(self) -> Path:
        """Settings and pids of the running processes."""
        return self.home / "run"

    @property
    def data(self) -> Path:
        """What the stores keep: kafka/, warehouse/, dataflow/, store/."""
        return self.home / "data"

    @property
    def handover(self) -> Path:
        """Where the market's senders say how far they have come."""
        return self.data / "market_handover.json"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def airflow_home(self) -> Path:
        return self.home / "airflow"

    @property
    def store(self) -> str:
        """Base URI of plans, slices and the archive."""
        return (self.data / "store").as_uri()

    def port(self, name: str) -> int:
        """The port of one of OFFSETS' names."""
        return self.port_base + OFFSETS[name]

    def address(self, name: str) -> str:
        """host:port of one of OFFSETS' names."""
        return f"{HOST}:{self.port(name)}"

    def address_of_clients(self, name: str) -> str:
        """Where clients find a broker and the warehouse: their own port, or MADHATTER_PROXY_SHIFT above it, where a
        proxy of the caller's listens."""
        return f"{HOST}:{self.port(name) + int(os.environ.get('MADHATTER_PROXY_SHIFT') or 0)}"

    @property
    def broker_names(self) -> tuple[str, ...]:
        """The brokers' services, which are also their names in OFFSETS."""
        return BROKERS[: self.brokers]

    @property
    def bootstrap(self) -> str:
        """Kafka's bootstrap.servers: all brokers, where clients find them."""
        return ",".join(map(self.address_of_clients, self.broker_names))

    def url(self, name: str) -> str:
        """http address of one of OFFSETS' names, without a slash at the end."""
        return f"http://{self.address(name)}"

    @property
    def hosts(self) -> dict[str, str]:
        """What airflow_settings.yaml calls the services (host:port), and where they are on this machine."""
        return {
            "kafka:9092": self.bootstrap,
            "warehouse:8084": self.address_of_clients("warehouse"),
            "dataflow:8085": self.address("dataflow"),
            "dataflow:8086": self.address("dataflow_grpc"),
        }

    @cached_property
    def secrets(self) -> Secrets:
        """The instance's own secrets; made and stored when it has none yet. Raises BrokenInstance."""
        file = self.home / "instance.json"
        if not file.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            part = self.home / f".instance.{os.getpid()}"
            part.touch(mode=0o600)
            part.write_text(json.dumps(_new_secrets(), indent=1))
            # A link instead of a rename: of two that start at once the first one wins, and both read its file.
            with contextlib.suppress(FileExistsError):
                file.hardlink_to(part)
            part.unlink()
        try:
            return Secrets(**json.loads(file.read_text()))
        except (ValueError, TypeError) as error:
            raise BrokenInstance(
                f"{file} is broken ({error}): it holds this instance's passwords and keys. Put a copy of it back; or "
                "`make down`, remove the file and `make up`, which makes new ones and keeps the data"
            ) from error

    @cached_property
    def settings(self) -> dict[str, str]:
        """The environment variables that the platform's processes get from this instance, on top of `inherited()`."""
        own = self.secrets
        airflow = {
            "CORE__DAGS_FOLDER": f"{ROOT / 'dags'}",
            "CORE__PLUGINS_FOLDER": f"{ROOT / 'plugins'}",
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__EXECUTOR": "LocalExecutor",
            "CORE__PARALLELISM": "4",
            "CORE__FERNET_KEY": own.fernet_key,
            "CORE__EXECUTION_API_SERVER_URL": f"{self.url('airflow')}/execution/",
            "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": f"{self.airflow_home / 'passwords.json'}",
            "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{self.airflow_home / 'airflow.db'}",
            "API__HOST": HOST,
            "API__PORT": f"{self.port('airflow')}",
            "API__BASE_URL": self.url("airflow"),
            "API__WORKERS": "1",
            "API__SECRET_KEY": own.api_secret,
            "API__EXPOSE_CONFIG": "False",
            "API_AUTH__JWT_SECRET": own.jwt_secret,
            "DAG_PROCESSOR__REFRESH_INTERVAL": "15",
            "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
            "DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.5",
            # A dead scheduler's or worker's tasks are found and tried again within a minute instead of ten.
            "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "20",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
            # Without it a cleared task that had succeeded returns its old result.
            "STATE_STORE__CLEAR_ON_SUCCESS": "True",
            "USAGE_DATA_COLLECTION__ENABLED": "False",
            "LOGGING__BASE_LOG_FOLDER": f"{self.airflow_home / 'logs'}",
        }
        platform = {
            "AIRFLOW_HOME": f"{self.airflow_home}",
            "DATAFLOW_API_ENDPOINT": self.url("dataflow"),
            "DATAFLOW_GRPC_ENDPOINT": self.address("dataflow_grpc"),
            "MADHATTER_ALERT_FILE": f"{self.data / 'alerts.jsonl'}",
            "MADHATTER_COLLECTOR_KAFKA": json.dumps({"bootstrap.servers": self.bootstrap}),
            "MADHATTER_COLLECTOR_KEYS": json.dumps({"shop": {"key": own.collector_key, "topics": list(topics())}}),
            "MADHATTER_COLLECTOR_SPOOL": f"{self.data / 'collector'}",
            "MADHATTER_FUNCTIONS": json.dumps({name: self.url(name) for name in FUNCTIONS}),
            "MADHATTER_HOME": f"{self.home}",
            "MADHATTER_JOB_LINK": f"{self.url('dataflow')}/v1b3/projects/{{project_id}}/locations/{{location}}"
            "/jobs/{job_id}/messages",
            "MADHATTER_KAFKA": json.dumps({"bootstrap.servers": self.bootstrap}),
            "MADHATTER_PARTNER_KEYS": json.dumps({"partner": {"key": own.collector_key, "topics": list(topics())}}),
            "MADHATTER_PROJECT": PROJECT,
            "MADHATTER_PUSH_ACCOUNT": PUSH_ACCOUNT,
            "MADHATTER_PUSH_CERTS": f"{self.url('pubsub_http')}/oauth2/v3/certs",
            "MADHATTER_STORE": self.store,
            "MADHATTER_TEMPLATES": (ROOT / "include/beam/templates").as_uri(),
            "PLATFORM_START": own.platform_start,
            "PORT_BASE": f"{self.port_base}",
            "PUBSUB_EMULATOR_HOST": self.address("pubsub"),
            "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in (".", "plugins", "local/airflow/redirect")),
            "PYTHONUNBUFFERED": "1",
            # The connector would ask cloud metadata services who it is, and wait for them.
            "SNOWFLAKE_DISABLE_PLATFORM_DETECTION": "true",
            # Airflow's processes rename themselves, which would overwrite the mark by which local.processes knows them.
            "SPT_NOENV": "1",
        }
        # A laptop sleeps: bounded by time, its log would lose what came just before and nobody had read. By size it
        # must hold the 7 hours that a slice may reach back: 0.7 MB for each event a second, in the busiest partition
        # (a fifth of the events, 140 bytes each).
        rate = os.environ.get("MADHATTER_LIVE_RATE", "")
        size = max(256, int(rate)) if rate.isascii() and rate.isdecimal() else 256
        kept = {"MADHATTER_KEEP_LOG_DAYS": "0", "MADHATTER_KEEP_LOG_MB": f"{size}"}
        # The caller's own choices: cadence, tail, window and what else plugins/madhatter/settings.py reads.
        chosen = {k: v for k, v in os.environ.items() if k.startswith("MADHATTER_") or k == "PLATFORM_START"}
        chosen.pop("MADHATTER_SERVICE", None)
        connections = read_settings(ROOT / "airflow_settings.yaml", self.hosts)
        platform["MADHATTER_WAREHOUSE"] = json.dumps(snowflake_arguments(connections))
        return (
            {f"AIRFLOW__{name}": value for name, value in airflow.items()}
            | connections
            | platform
            | kept
            | (chosen | {"MADHATTER_HOME": f"{self.home}"})
        )

    def environment(self) -> dict[str, str]:
        """The whole environment of a process of this instance."""
        path = os.pathsep.join([str(self.platform_python.parent), os.environ.get("PATH", os.defpath)])
        return inherited() | {"PATH": path} | self.settings


def stored_port_base(home: Path) -> str:
    """The PORT_BASE with which the instance was started last, empty when there was none."""
    file = home / "port_base"
    return file.read_text().strip() if file.exists() else ""


def stored_brokers(home: Path) -> str:
    """The number of brokers that the instance's log was made for, empty when it has none yet."""
    file = home / "brokers"
    if file.exists():
        return file.read_text().strip()
    # Before there was a choice there was one.
    return "1" if (home / "data" / "kafka" / "meta.properties").exists() else ""


def inherited() -> dict[str, str]:
    """The caller's environment without what belongs to another Airflow or Python project."""
    return {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN + OWN)}


def _new_secrets() -> dict[str, str]:
    return {
        "admin_password": secrets.token_urlsafe(12),
        "api_secret": secrets.token_urlsafe(32),
        "collector_key": secrets.token_urlsafe(24),
        "cluster_id": base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "M"),
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "jwt_secret": secrets.token_urlsafe(64),
        "platform_start": datetime.now(UTC).replace(minute=0, second=0, microsecond=0).isoformat(),
        "supervisor_password": secrets.token_urlsafe(24),
    }
