"""The broker's jars come whole, from a mirror too, and go on where they stopped."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from jgo.env import LockFile

from local.kafka import jars

JAR = "org/example/thing/1.0/thing-1.0.jar"
CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Mirror(SimpleHTTPRequestHandler):
    """A Maven repository that can continue a download, and remembers from where."""

    asked: list[str | None] = []

    def do_GET(self) -> None:
        begin = self.headers.get("Range")
        self.asked.append(begin)
        if begin is None:
            return super().do_GET()
        body = Path(self.translate_path(self.path)).read_bytes()[int(begin.removeprefix("bytes=").rstrip("-")) :]
        self.send_response(206)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        return None

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "mirror" / JAR
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    Mirror.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Mirror, directory=str(tmp_path / "mirror"))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_mirror_of_jgos_settings_replaces_maven_central(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "jgo.conf"
    config.write_text("[repositories]\ncentral = http://mirror/maven2\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(config))
    assert jars.repositories() == {"central": "http://mirror/maven2"}


def test_jar_comes_from_the_mirror(tmp_path: Path, mirror: str) -> None:
    jars.fetch(JAR, SHA256, tmp_path, {"central": mirror}, tmp_path / "no-cache")
    assert (tmp_path / "thing-1.0.jar").read_bytes() == CONTENT


def test_interrupted_download_goes_on_where_it_stopped(tmp_path: Path, mirror: str) -> None:
    (tmp_path / "thing-1.0.part").write_bytes(CONTENT[:1000])
    jars.fetch(JAR, SHA256, tmp_path, {"central": mirror}, tmp_path / "no-cache")
    assert (tmp_path / "thing-1.0.jar").read_bytes() == CONTENT
    assert Mirror.asked == ["bytes=1000-"]


def test_jar_with_another_hash_is_refused(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(RuntimeError, match=r"thing-1\.0\.jar: central: the file's SHA-256 is not the locked one"):
        jars.fetch(JAR, "0" * 64, tmp_path, {"central": mirror}, tmp_path / "no-cache")
    assert not (tmp_path / "thing-1.0.jar").exists()


def test_jar_that_no_repository_has_names_what_each_answered(tmp_path: Path, mirror: str) -> None:
    with pytest.raises(RuntimeError, match="central: 404"):
        jars.fetch("org/example/none/1.0/none-1.0.jar", SHA256, tmp_path, {"central": mirror}, tmp_path / "no-cache")


def test_jar_of_mavens_local_repository_is_taken_without_a_download(tmp_path: Path) -> None:
    cached = tmp_path / "m2" / JAR
    cached.parent.mkdir(parents=True)
    cached.write_bytes(CONTENT)
    jars.fetch(JAR, SHA256, tmp_path, {}, tmp_path / "m2")
    assert (tmp_path / "thing-1.0.jar").read_bytes() == CONTENT


def test_jar_of_an_older_lock_leaves_the_class_path(tmp_path: Path) -> None:
    (tmp_path / "kafka-clients-3.9.1.jar").touch()
    jars.remove_others(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_lock_has_one_version_of_kafka() -> None:
    kafka = [jar for jar in LockFile.load(jars.LOCK).dependencies if jar.groupId == "org.apache.kafka"]
    assert {jar.version for jar in kafka} == {"4.3.1"}


def test_lock_names_hashes_and_no_address() -> None:
    assert "://" not in jars.LOCK.read_text()
    assert len(jars.missing(Path("/nonexistent"))) == 46
