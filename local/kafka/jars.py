"""The broker's jars: those of jgo.lock.toml, each with its SHA-256, from Maven Central or the mirror in jgo's settings.

`python -m local.kafka.jars DIR` fills DIR. A jar that is already there with the right hash is kept, so that an
interrupted run goes on where it stopped. Where to fetch from is jgo's own setting: `[repositories] central = ...` in
~/.config/jgo.conf or $JGO_CONFIG_FILE.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import requests
from jgo.config import GlobalSettings
from jgo.constants import MAVEN_CENTRAL_URL
from jgo.env import LockFile

LOCK = Path(__file__).with_name("jgo.lock.toml")
TIMEOUT_S = 30


def repositories() -> dict[str, str]:
    """Name to address of each Maven repository, in the order they are asked. `central` may be replaced."""
    return {"central": MAVEN_CENTRAL_URL} | settings().repositories


def settings() -> GlobalSettings:
    """jgo's settings: $JGO_CONFIG_FILE, else ~/.config/jgo.conf."""
    file = os.environ.get("JGO_CONFIG_FILE")
    return GlobalSettings.load(Path(file).expanduser() if file else None)


def locked(lock: Path = LOCK) -> dict[str, tuple[str, str]]:
    """File name -> (path in a Maven repository, SHA-256) of the jars of a lock file."""
    found = {}
    for jar in LockFile.load(lock).dependencies:
        if not jar.sha256:
            raise ValueError(f"{lock}: {jar.artifactId} has no sha256; run `jgo lock` beside jgo.toml")
        name = f"{jar.artifactId}-{jar.version}{'-' + jar.classifier if jar.classifier else ''}.{jar.packaging}"
        found[name] = (f"{jar.groupId.replace('.', '/')}/{jar.artifactId}/{jar.version}/{name}", jar.sha256)
    return found


def remove_others(target: Path) -> None:
    """Removes what the lock does not name: everything in target is on the broker's class path."""
    named = locked()
    for file in target.glob("*.jar"):
        if file.name not in named:
            file.unlink()


def missing(target: Path) -> list[tuple[str, str]]:
    """(path in a Maven repository, SHA-256) of each locked jar that target lacks or holds damaged."""
    return [(path, sha256) for name, (path, sha256) in locked().items() if not _is(target / name, sha256)]


def fetch_all(
    wanted: Collection[tuple[str, str]], target: Path, tell: Callable[[int, int], None] = lambda *_: None
) -> list[str]:
    """Fetches jars, eight at a time. tell: called with the number of jars and of bytes that are done.

    Returns what became of each that could not be fetched."""
    repos, cache = repositories(), Path(settings().repo_cache).expanduser()
    failed, size_bytes = [], 0
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(fetch, path, sha256, target, repos, cache) for path, sha256 in wanted]
        for done, job in enumerate(as_completed(jobs), 1):
            try:
                size_bytes += job.result()
            except (RuntimeError, OSError) as e:
                failed.append(str(e))
            tell(done, size_bytes)
    return failed


def fetch(path: str, sha256: str, target: Path, repos: dict[str, str], cache: Path) -> int:
    """Puts one jar into target, whole or not at all, and returns its bytes. cache: Maven's local repository, read only.

    Raises RuntimeError that names what each repository answered.
    """
    final = target / path.rsplit("/", 1)[1]
    part = final.with_suffix(".part")
    if _is(cache / path, sha256):
        shutil.copyfile(cache / path, part)
        part.replace(final)
        return final.stat().st_size
    answers = []
    for name, base in repos.items():
        try:
            _download(f"{base.rstrip('/')}/{path}", part)
        except requests.RequestException as e:
            answers.append(f"{name}: {e}")
            continue
        if _is(part, sha256):
            part.replace(final)
            return final.stat().st_size
        part.unlink()
        answers.append(f"{name}: the file's SHA-256 is not the locked one ({sha256})")
    raise RuntimeError(f"{path}: " + "; ".join(answers))


def main(target: Path) -> int:
    """Fetches what is missing, with a line of progress each second; returns the exit code."""
    target.mkdir(parents=True, exist_ok=True)
    remove_others(target)
    wanted = missing(target)
    shown = 0.0

    def tell(done: int, size_bytes: int) -> None:
        nonlocal shown
        if time.monotonic() - shown > 1 or done == len(wanted):
            shown = time.monotonic()
            print(f"        {done}/{len(wanted)} jars, {size_bytes / 1e6:.0f} MB", flush=True)

    failed = fetch_all(wanted, target, tell)
    if failed:
        print(
            f"{len(failed)} of the broker's {len(wanted)} jars could not be fetched:",
            *failed[:3],
            sep="\n  ",
            file=sys.stderr,
        )
        print("Run `make up` again: it goes on from here. Behind a mirror: docs/how-to/mirror.md", file=sys.stderr)
    return 1 if failed else 0


def _download(url: str, part: Path) -> None:
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
        if answer.status_code == requests.codes.requested_range_not_satisfiable:
            part.unlink()
            return _download(url, part)
        answer.raise_for_status()
        with part.open("ab" if answer.status_code == requests.codes.partial_content else "wb") as out:
            for block in answer.iter_content(1 << 16):
                out.write(block)
    return None


def _is(file: Path, sha256: str) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest() == sha256


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
