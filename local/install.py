"""The environments in <home>/env: boot (the installer), platform, warehouse, kafka (jars). Standard library only.

`python local/install.py HOME [--dev]` installs what is missing and is silent when nothing is. Each environment has a
stamp with its lock's hash, written last: an interrupted installation goes on where it stopped, from the cache.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements"
KAFKA_LOCK = ROOT / "local" / "kafka" / "jgo.lock.toml"
FULL_DISK_BYTES = 200_000_000
STAMP = "madhatter-stamp"


class InstallError(RuntimeError):
    """What could not be installed, and what to do."""


def missing(home: str | Path, dev: bool = False) -> list[str]:
    """Names of the environments that are absent, unfinished or older than their lock."""
    return [name for name, lock in _locks(dev).items() if not _is_done(Path(home) / "env" / name, lock)]


def probe(home: str | Path, package: str) -> list[str]:
    """A command that succeeds where pip reaches its index: it only asks for versions. `true` where there is no pip."""
    boot = Path(home) / "env" / "boot" / "bin" / "python"
    python = str(boot) if boot.exists() else sys.executable
    if python == sys.executable and importlib.util.find_spec("pip") is None:
        return ["true"]
    return [
        python,
        "-m",
        "pip",
        "--timeout",
        "5",
        "--retries",
        "0",
        "--disable-pip-version-check",
        "index",
        "versions",
        package,
    ]


def install(home: Path, dev: bool = False) -> None:
    """Installs what is missing. Raises InstallError with what failed and its cure."""
    todo, env = missing(home, dev), home / "env"
    if not todo:
        return
    if "platform" in todo or "warehouse" in todo:
        boot, lock = env / "boot", LOCKS / "boot.txt"
        if not _is_done(boot, lock):
            _run("Installer", home, [sys.executable, "-m", "venv", "--clear", str(boot)])
            _run(
                "Installer",
                home,
                [str(boot / "bin" / "python"), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(lock)],
            )
            _stamp(boot, lock)
    for name in ("platform", "warehouse"):
        if name in todo:
            # An environment that has the tests' packages keeps them.
            _python_environment(
                home, name, LOCKS / "dev.txt" if name == "platform" and _is_dev(env / name) else _locks(dev)[name]
            )
    if "kafka" in todo:
        jars = env / "kafka" / "jars"
        _run("Kafka's jars", home, [str(env / "platform" / "bin" / "python"), "-m", "local.kafka.jars", str(jars)])
        _stamp(env / "kafka", KAFKA_LOCK)


def uv_settings(pip_config: str) -> dict[str, str]:
    """uv's environment variables for what pip is configured with: uv reads neither pip.conf nor PIP_*.

    pip_config: the lines of `pip config list`, as `global.index-url='...'`. A variable that is already set stays.
    """
    names = {
        "index-url": "UV_DEFAULT_INDEX",
        "extra-index-url": "UV_INDEX",
        "cert": "SSL_CERT_FILE",
        "trusted-host": "UV_INSECURE_HOST",
        "proxy": "ALL_PROXY",
    }
    found = {}
    for line in pip_config.splitlines():
        key, _, value = line.partition("=")
        name = names.get(key.rsplit(".", 1)[-1].lower())
        if name and name not in os.environ:
            found[name] = " ".join(value.strip().strip("'\"").replace("\\n", " ").split())
    return found


def _locks(dev: bool) -> dict[str, Path]:
    return {
        "platform": LOCKS / ("dev.txt" if dev else "local.txt"),
        "warehouse": LOCKS / "warehouse.txt",
        "kafka": KAFKA_LOCK,
    }


def _python_environment(home: Path, name: str, lock: Path) -> None:
    folder, boot = home / "env" / name, home / "env" / "boot" / "bin"
    config = subprocess.run(
        [str(boot / "python"), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    env = {
        k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    } | uv_settings(config.stdout)
    uv, python = str(boot / "uv"), folder / "bin" / "python"
    (folder / STAMP).unlink(missing_ok=True)
    if not python.exists():
        _run(f"Environment {name}", home, [uv, "venv", "-q", "--clear", "--python", sys.executable, str(folder)], env)
    sync = [uv, "pip", "sync", "--python", str(python), "--require-hashes", "--compile-bytecode", str(lock)]
    if not sys.stdout.isatty():
        sync.append("--quiet")  # uv's bars are for terminals; a log would get a line for each of 300 packages
    _run(f"Environment {name}", home, sync, env)
    _stamp(folder, lock)


def _run(title: str, home: Path, command: list[str], env: dict[str, str] | None = None) -> None:
    """Runs one command of the installation; its own progress is seen on a terminal, elapsed time in a log."""
    from contextlib import nullcontext

    from local.progress import step

    with nullcontext() if sys.stdout.isatty() else step(title):
        done = subprocess.run(command, env=env, cwd=ROOT, check=False)
        if done.returncode:
            raise _failure(title, home, done.returncode)


def _failure(title: str, home: Path, code: int) -> InstallError:
    free = shutil.disk_usage(home).free
    if free < FULL_DISK_BYTES:
        return InstallError(
            f"{title}: the disk of {home} is full ({free / 1e6:.0f} MB left). Free 6 GB, or put the state folder "
            "elsewhere (MADHATTER_HOME=/path make up); the installation goes on where it stopped."
        )
    return InstallError(
        f"{title} could not be installed (exit code {code}; the reason is above). `make up` again goes on where it "
        "stopped. Behind a proxy or a mirror: docs/how-to/mirror.md"
    )


def _is_dev(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / STAMP).read_text())["lock"] == "dev.txt")
    except (OSError, ValueError, KeyError):
        return False


def _is_done(folder: Path, lock: Path) -> bool:
    try:
        stamp = json.loads((folder / STAMP).read_text())
    except (OSError, ValueError):
        return False
    if folder.name == "kafka":
        return bool(stamp["hash"] == _hash(lock))
    if lock.name == "local.txt" and stamp["lock"] == "dev.txt":
        lock = LOCKS / "dev.txt"
    return bool(stamp["hash"] == _hash(lock)) and (folder / "bin" / "python").exists()


def _stamp(folder: Path, lock: Path) -> None:
    (folder / STAMP).write_text(json.dumps({"lock": lock.name, "hash": _hash(lock)}))


def _hash(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    try:
        install(Path(sys.argv[1]).expanduser().absolute(), "--dev" in sys.argv[2:])
    except InstallError as e:
        print(e, file=sys.stderr)
        sys.exit(1)
    except OSError as e:
        print(f"The installation stopped: {e}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("Interrupted; `make up` goes on from here.", file=sys.stderr)
        sys.exit(130)
