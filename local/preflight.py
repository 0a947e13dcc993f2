# ruff: noqa: PTH100, PTH103, PTH107, PTH110, PTH111, PTH112, PTH118, PTH120, PTH123, UP006, UP032, UP035, UP045
# Any Python 3 must be able to read this file, to say what is wrong with itself: no pathlib habits, no new syntax.
"""Two seconds that spare twenty minutes: can this machine carry the platform? Standard library only.

`python local/preflight.py HOME PORT_BASE` prints one line for each problem, with its cure, and exits with 1 if any.
"""

import os
import shutil
import socket
import subprocess
import sys
from typing import List, Optional, Tuple
from urllib.parse import unquote, urlparse

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HOST = "127.0.0.1"
# Relative to PORT_BASE; a test holds them against local/instance.py.
PORTS = {
    1: "supervisor",
    60: "fraud_detection",
    61: "inventory_alert",
    62: "personal_offer",
    63: "pipeline_monitor",
    64: "live_loader",
    65: "event_validation",
    66: "alert_book",
    80: "airflow",
    84: "warehouse",
    85: "dataflow",
    86: "dataflow_grpc",
    87: "collector",
    88: "pubsub",
    89: "pubsub_http",
    92: "kafka",
    93: "kafka_controller",
}
PORTS_OF_THREE = {94: "kafka-2", 95: "kafka-2_controller", 96: "kafka-3", 97: "kafka-3_controller"}
GB = 1000**3
INSTALL_BYTES = 6 * GB
RUN_BYTES = 2 * GB
MEMORY_BYTES = 4 * GB
PROBE_PACKAGE = "uv"
PROBE_TIMEOUT_S = 8


def python_problems(version: Tuple[int, int], has_venv: bool, executable: str) -> List[str]:
    """version: (major, minor). Lines; empty when this Python will do."""
    if not (3, 11) <= version < (3, 13):
        return [
            "Python: 3.11 or 3.12 is needed; what was found is {}.{} ({}). Install python3.11 (apt install python3.11 "
            "python3.11-venv, brew install python@3.11, or pyenv install 3.11) and put it on PATH.".format(
                version[0], version[1], executable
            )
        ]
    if not has_venv:
        return [
            "Python: {} has no venv or no ensurepip. On Debian and Ubuntu: apt install python{}.{}-venv".format(
                executable, version[0], version[1]
            )
        ]
    return []


def port_base_problems(text: str) -> List[str]:
    """text: PORT_BASE as given."""
    if text.isdigit() and 1024 <= int(text) <= 65000:
        return []
    return ["Ports: PORT_BASE={} is no number from 1024 to 65000. For example: PORT_BASE=28000 make up".format(text)]


def brokers_problems(text: str) -> List[str]:
    """text: BROKERS as given."""
    if text in ("", "1", "3"):
        return []
    return ["Brokers: BROKERS={} is neither 1 nor 3. For example: make up BROKERS=3".format(text)]


def port_problems(port_base: int, brokers: str = "") -> List[str]:
    """One line when others hold ports of this instance. brokers: BROKERS as given."""
    taken = []
    for offset, name in sorted(PORTS.items()) + (sorted(PORTS_OF_THREE.items()) if brokers == "3" else []):
        probe = socket.socket()
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port_base + offset))
        except OSError:
            taken.append("{} ({})".format(port_base + offset, name))
        finally:
            probe.close()
    if not taken:
        return []
    return [
        "Ports: in use by another program: {}. End it (lsof -i :{} names it), or choose other ports: "
        "PORT_BASE={} make up".format(", ".join(taken), taken[0].split()[0], 28000 if port_base < 23000 else 18000)
    ]


def folder_problems(folder: str, name: str = "State folder", setting: str = "MADHATTER_HOME=/path") -> List[str]:
    """The folder can be made and written; so a full disk or a path that is too long is found as well. setting: chooses
    another one."""
    probe = os.path.join(folder, ".preflight-{}".format(os.getpid()))
    try:
        os.makedirs(folder, exist_ok=True)
        with open(probe, "w") as f:
            f.write("x" * 4096)
    except OSError as e:
        return [
            "{}: {} cannot be written ({}). Make it writable, or choose another: {} make up".format(
                name, folder, e.strerror, setting
            )
        ]
    finally:
        if os.path.exists(probe):
            os.remove(probe)
    return []


def store_folder(home: str, uri: str) -> Optional[str]:
    """Where plans, slices and the archive go. uri: MADHATTER_STORE, empty when it is not set. None: not a folder."""
    if not uri:
        return os.path.join(home, "data", "store")
    parts = urlparse(uri)
    return unquote(parts.path) if parts.scheme == "file" else None


def disk_problems(free_bytes: int, needed_bytes: int, home: str) -> List[str]:
    """free_bytes: on the disk of the state folder."""
    if free_bytes >= needed_bytes:
        return []
    return [
        "Disk: {:.1f} GB are free for {}, {:.0f} GB are needed. Free some, or put the state folder elsewhere: "
        "MADHATTER_HOME=/path make up".format(free_bytes / GB, home, needed_bytes / GB)
    ]


def memory_problems(total_bytes: Optional[int]) -> List[str]:
    """total_bytes: of the machine, or of the control group it runs in; None where unknown."""
    if total_bytes is None or total_bytes >= MEMORY_BYTES:
        return []
    return [
        "Memory: {:.1f} GB in all, {:.0f} GB are needed. Give the machine (or its virtual machine or container) "
        "more.".format(total_bytes / GB, MEMORY_BYTES / GB)
    ]


def registry_problems(command: List[str]) -> List[str]:
    """command: a pip call that only asks the index. One line with pip's own reason when it fails."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=PROBE_TIMEOUT_S
        )
        said = done.stdout.decode("utf-8", "replace")
        if done.returncode == 0:
            return []
    except subprocess.TimeoutExpired:
        said = "no answer within {} s".format(PROBE_TIMEOUT_S)
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["no reason given"]
    return [
        "Registry: pip finds nothing in its package index ({}). Check the network, the proxy (HTTPS_PROXY) or the "
        "index that pip is configured with (pip config list); behind a mirror: docs/how-to/mirror.md".format(lines[-1])
    ]


def memory_bytes() -> Optional[int]:
    """Physical memory, or less where a control group says so; None where the system does not tell."""
    total = None
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        with open("/sys/fs/cgroup/memory.max") as f:
            total = min(total, int(f.read()))
    except (OSError, ValueError):
        pass
    return total


def has_venv() -> bool:
    """Whether this Python can make a virtual environment with pip."""
    try:
        import ensurepip
        import venv
    except ImportError:
        return False
    return bool(ensurepip and venv)


def is_ours(home: str) -> bool:
    """Whether the ports may be this instance's own: `make up` ends what a dead supervisor left, then looks again."""
    return os.path.exists(os.path.join(home, "run", "supervisord.pid"))


def free_bytes(home: str) -> int:
    """Free space where home is or will be."""
    while not os.path.isdir(home):
        home = os.path.dirname(home)
    return shutil.disk_usage(home).free


def main(home: str, port_base: str) -> int:
    """Returns the exit code."""
    problems = python_problems(sys.version_info[:2], has_venv(), sys.executable)
    if problems and sys.version_info < (3, 11):
        print("preflight: " + problems[0])
        return 1
    brokers = os.environ.get("BROKERS", "")
    problems += port_base_problems(port_base) + brokers_problems(brokers)
    if not problems and not is_ours(home):
        problems += port_problems(int(port_base), brokers)
    problems += folder_problems(home)
    store = store_folder(home, os.environ.get("MADHATTER_STORE", ""))
    if store and not problems:
        problems += folder_problems(store, "Store", "MADHATTER_STORE=file:///path")
    sys.path.insert(0, ROOT)
    from local import install

    todo = install.missing(home) if not problems else []
    if not problems:
        problems += disk_problems(free_bytes(home), INSTALL_BYTES if todo else RUN_BYTES, home)
    problems += memory_problems(memory_bytes())
    if todo and not problems:
        problems += registry_problems(install.probe(home, PROBE_PACKAGE))
    for problem in problems:
        print("preflight: " + problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(os.path.abspath(os.path.expanduser(sys.argv[1])), sys.argv[2]))
