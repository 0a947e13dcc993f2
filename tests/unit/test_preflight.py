"""The preflight says what is wrong with a machine, and how to cure it."""

from __future__ import annotations

import ast
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from local import install, preflight
from local.instance import OFFSETS, ROOT


def test_python_3_6_can_read_the_preflight() -> None:
    ast.parse(Path(preflight.__file__).read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 10), (3, 13)])
def test_wrong_python_is_named_with_its_cure(version: tuple[int, int]) -> None:
    (line,) = preflight.python_problems(version, True, "/usr/bin/python3")
    assert f"{version[0]}.{version[1]} (/usr/bin/python3)" in line
    assert "apt install python3.11" in line


@pytest.mark.parametrize("version", [(3, 11), (3, 12)])
def test_fitting_python_is_no_problem(version: tuple[int, int]) -> None:
    assert preflight.python_problems(version, True, "python3") == []


def test_python_without_venv_is_named_with_the_package_to_install() -> None:
    (line,) = preflight.python_problems((3, 11), False, "python3")
    assert "python3.11-venv" in line


def test_preflight_knows_every_port_of_an_instance() -> None:
    known = {**preflight.PORTS, **preflight.PORTS_OF_THREE}
    assert {name: offset for offset, name in known.items()} == OFFSETS


def test_number_of_brokers_that_no_cluster_has_is_a_sentence() -> None:
    assert [preflight.brokers_problems(text) for text in ("", "1", "3")] == [[], [], []]
    assert preflight.brokers_problems("2") == ["Brokers: BROKERS=2 is neither 1 nor 3. For example: make up BROKERS=3"]


@pytest.mark.parametrize("text", ["", "abc", "80", "65001", "-5"])
def test_unusable_port_base_is_a_sentence(text: str) -> None:
    (line,) = preflight.port_base_problems(text)
    assert "PORT_BASE=28000" in line


def test_port_of_another_program_is_named_with_its_cure() -> None:
    with socket.socket() as other:
        other.bind((preflight.HOST, 0))
        other.listen()
        port = other.getsockname()[1]
        (line,) = preflight.port_problems(port - 80)
    assert f"{port} (airflow)" in line
    assert "PORT_BASE=" in line


def test_folder_that_cannot_be_made_is_named_with_its_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (line,) = preflight.folder_problems(str(tmp_path / "file" / "home"))
    assert str(tmp_path / "file" / "home") in line
    assert "MADHATTER_HOME=" in line


@pytest.mark.parametrize("home", ["file", "file/home", "/proc/home"])
def test_make_up_with_a_state_folder_that_cannot_be_written_ends_with_one_sentence(tmp_path: Path, home: str) -> None:
    (tmp_path / "file").touch()
    env = os.environ | {"MADHATTER_HOME": str(tmp_path / home), "PORT_BASE": "64000"}
    done = subprocess.run(["make", "up"], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("preflight:")]
    assert f"State folder: {tmp_path / home} cannot be written" in line
    assert "MADHATTER_HOME=/path make up" in line


def test_store_that_cannot_be_written_is_named_with_its_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = os.environ | {"MADHATTER_STORE": (tmp_path / "file").as_uri()}
    command = [sys.executable, "local/preflight.py", str(tmp_path / "home"), "64000"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"Store: {tmp_path / 'file'} cannot be written" in done.stdout
    assert "MADHATTER_STORE=file:///path" in done.stdout


@pytest.mark.parametrize(
    ("uri", "folder"),
    [("", "/home/ada/data/store"), ("file:///a%20b", "/a b"), ("gs://bucket/store", None)],
)
def test_store_is_probed_where_it_is_a_folder(uri: str, folder: str | None) -> None:
    assert preflight.store_folder("/home/ada", uri) == folder


def test_down_with_a_state_folder_that_cannot_be_written_ends_with_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    env = os.environ | {"MADHATTER_HOME": str(tmp_path / "file")}
    command = [sys.executable, "-m", "local", "down"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_probing_a_folder_leaves_nothing_in_it(tmp_path: Path) -> None:
    assert preflight.folder_problems(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_named_with_what_is_needed() -> None:
    (line,) = preflight.disk_problems(10**9, 6 * 10**9, "/home/ada")
    assert "1.0 GB" in line
    assert "6 GB" in line


def test_little_memory_is_a_problem_and_unknown_memory_is_not() -> None:
    assert "4 GB are needed" in preflight.memory_problems(10**9)[0]
    assert preflight.memory_problems(None) == []


def test_unreachable_index_is_reported_with_pips_own_words() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('ERROR: no such host')"]
    (line,) = preflight.registry_problems(command)
    assert "no such host" in line
    assert "docs/how-to/mirror.md" in line


def test_make_passes_over_a_shim_without_a_version_behind_it(tmp_path: Path) -> None:
    for name in ("python3.11", "python3.12", "python3"):
        shim = tmp_path / name
        shim.write_text("#!/bin/sh\necho 'pyenv: command not found' >&2\nexit 127\n")
        shim.chmod(0o755)
    real = Path(sys.executable).resolve()
    env = os.environ | {"PATH": f"{tmp_path}:{real.parent}:/usr/bin:/bin"}
    done = subprocess.run(["sh", "local/find_python.sh"], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert not done.stdout.startswith(str(tmp_path))
    assert re.search(r"python3(\.1[12])?$", done.stdout.strip())


def test_environment_with_a_newer_lock_is_missing(tmp_path: Path) -> None:
    platform = tmp_path / "env" / "platform"
    (platform / "bin").mkdir(parents=True)
    (platform / "bin" / "python").touch()
    install._stamp(platform, install.LOCKS / "local.txt")
    assert "platform" not in install.missing(tmp_path)
    assert "platform" in install.missing(tmp_path, dev=True)
    (platform / install.STAMP).write_text('{"lock": "local.txt", "hash": "older"}')
    assert "platform" in install.missing(tmp_path)


def test_environment_of_the_tests_is_good_enough_to_run(tmp_path: Path) -> None:
    platform = tmp_path / "env" / "platform"
    (platform / "bin").mkdir(parents=True)
    (platform / "bin" / "python").touch()
    install._stamp(platform, install.LOCKS / "dev.txt")
    assert "platform" not in install.missing(tmp_path)


def test_pips_mirror_is_passed_on_to_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    config = "global.index-url='http://mirror/simple'\n:env:.extra-index-url='http://a/simple\\nhttp://b/simple'\ninstall.no-color='1'"
    assert install.uv_settings(config) == {
        "UV_DEFAULT_INDEX": "http://mirror/simple",
        "UV_INDEX": "http://a/simple http://b/simple",
    }


def test_uvs_own_setting_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://mine/simple")
    assert install.uv_settings("global.index-url='http://mirror/simple'") == {}


def test_failed_installation_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(install.InstallError, match=r"goes on where it stopped.*mirror\.md"):
        install._run("Installer", tmp_path, [sys.executable, "-c", "raise SystemExit(3)"])


def test_full_disk_at_installation_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "FULL_DISK_BYTES", 1 << 62)
    with pytest.raises(install.InstallError, match=r"disk of .* is full"):
        install._run("Installer", tmp_path, [sys.executable, "-c", "raise SystemExit(3)"])
