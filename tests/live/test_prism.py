"""How Prism is got: what is there stays, what is half done goes, what is wrong is told."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from local import prism
from local.prism import install as installing
from local.prism.install import NotInstalled, install


def put(folder: Path, content: bytes = b"#!/bin/sh\necho job_port\n") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / prism.BINARY
    program.write_bytes(content)
    program.chmod(0o755)
    record = {"version": prism.wanted(), "sha256": hashlib.sha256(content).hexdigest(), "source": "test"}
    (folder / prism.RECORD).write_text(json.dumps(record))
    return program


def test_prism_that_is_there_is_not_got_again(tmp_path: Path) -> None:
    lines: list[str] = []
    program = put(tmp_path / "prism")
    assert install(tmp_path / "prism", lines.append) == program
    assert lines == []


def test_half_done_installation_is_removed_and_done_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network: neither a release nor a source can be had."""
    folder = tmp_path / "prism"
    left = folder / f"{installing.BUILDING}1"
    left.mkdir(parents=True)
    (left / "prism").write_bytes(b"half")
    (folder / prism.BINARY).write_bytes(b"half")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("GOPROXY", "off")
    monkeypatch.setenv("GOFLAGS", "-mod=mod")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(NotInstalled, match="Streaming jobs need Prism"):
        install(folder, lambda _: None)
    assert not list(folder.glob(f"{installing.BUILDING}*"))
    with pytest.raises(prism.PrismMissing):
        prism.binary(folder)


def test_source_is_locked_by_its_sum_for_the_installed_beam() -> None:
    assert installing._locked().startswith("h1:")


def test_program_that_does_not_run_here_is_not_kept(tmp_path: Path) -> None:
    made = put(tmp_path / "made", b"#!/bin/sh\necho wrong >&2\nexit 1\n")
    with pytest.raises(NotInstalled, match="does not run on this machine: wrong"):
        installing._keep(made, "release", tmp_path)
    assert not (tmp_path / prism.BINARY).exists()
