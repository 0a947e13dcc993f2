"""The repository as an Astro project: its image, its compose file, its connections, and DAGs in a clean environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.connections import read_settings
from local.install import uv_settings
from local.instance import OFFSETS, ROOT, Instance, inherited

ASTRO_HOME = "/usr/local/airflow"
PIN = re.compile(r"^([a-z0-9._-]+)(?:\[[a-z0-9,._-]+\])?==[^ ]+(?: ; [^\\]+)?", re.MULTILINE)
IMPORT = """
import json
from airflow import plugins_manager
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(bundle_name="dags-folder")
plugins, errors = plugins_manager._get_plugins()
found = {"dags": sorted(bag.dags), "errors": bag.import_errors | errors, "plugins": [p.name for p in plugins]}
print("FOUND" + json.dumps(found))
"""


def run(*command: str | Path, **options: Any) -> str:
    """A command's output; asserts that it succeeds."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command[0]}: {(done.stdout + done.stderr)[-3000:]}"
    return str(done.stdout)


def pins() -> dict[str, str]:
    """Pinned packages of the laptop's environment, name -> lines without hashes."""
    text = (ROOT / "requirements" / "local.txt").read_text()
    found: dict[str, str] = {}
    for match in PIN.finditer(text):
        found[match[1]] = found.get(match[1], "") + match[0].strip() + "\n"
    return found


@pytest.fixture(scope="module")
def uv(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The installer: the one of this installation, or one of its version in an environment of its own."""
    boot = Path(sys.prefix).parent / "boot" / "bin"
    if not (boot / "uv").exists():
        folder = tmp_path_factory.mktemp("boot")
        run(sys.executable, "-m", "venv", folder)
        boot = folder / "bin"
        lock = ROOT / "requirements" / "boot.txt"
        run(boot / "python", "-m", "pip", "install", "-q", "--require-hashes", "-r", lock)
    config = run(boot / "python", "-m", "pip", "config", "list")
    return ["env", *(f"{name}={value}" for name, value in uv_settings(config).items()), str(boot / "uv")]


@pytest.fixture(scope="module")
def clean_python(uv: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment with requirements.txt and nothing else, at the pinned versions."""
    folder = tmp_path_factory.mktemp("clean")
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(pins().values()))
    run(*uv, "venv", "-q", "--python", sys.executable, folder / "env")
    python = folder / "env" / "bin" / "python"
    run(*uv, "pip", "install", "-q", "--python", python, "-r", ROOT / "requirements.txt", "-c", constraints)
    yield python
    shutil.rmtree(folder)  # pytest would keep three of them, 1.8 GB each


def image_settings() -> dict[str, str]:
    """ENV of the Dockerfile."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    return dict(line.removeprefix("ENV ").split("=", 1) for line in lines if line.startswith("ENV "))


def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.override.yml").read_text())
    return parsed


def test_image_is_astro_runtime_of_airflow_3_3() -> None:
    froms = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if line.startswith("FROM ")]
    assert len(froms) == 1
    assert re.fullmatch(r"FROM \S*/(astro-)?runtime:3\.3-\d+", froms[0])


def test_requirements_pin_the_airflow_of_the_image_and_compile_to_the_lock() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    (airflow,) = [line for line in lines if line.startswith("apache-airflow==")]
    assert airflow.startswith("apache-airflow==3.3.")
    assert pins()["apache-airflow"].startswith(airflow)


def test_dags_and_plugin_import_in_astros_layout_in_a_clean_environment(clean_python: Path, tmp_path: Path) -> None:
    project = tmp_path / "airflow"
    for folder in ("dags", "plugins", "include"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    env = inherited() | {name: value.replace(ASTRO_HOME, str(project)) for name, value in image_settings().items()}
    env |= {
        "AIRFLOW_HOME": str(project),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "MADHATTER_STORE": "gs://madhatter/store",
        "MADHATTER_TEMPLATES": "gs://madhatter/templates",
    }
    found = json.loads(run(clean_python, "-c", IMPORT, cwd=project, env=env).split("FOUND", 1)[1])
    assert found["errors"] == {}
    assert found["dags"] == sorted(file.stem for file in (ROOT / "dags").glob("*.py"))
    assert "dashboards" in found["plugins"]


def test_clean_environment_has_no_conflicts(uv: list[str], clean_python: Path) -> None:
    run(*uv, "pip", "check", "--python", clean_python)


@pytest.mark.parametrize("version", ["3.3.1", "3.3.2"])
def test_requirements_resolve_with_each_airflow_that_composer_offers(
    uv: list[str], tmp_path: Path, version: str
) -> None:
    requirements, constraints = tmp_path / "requirements.in", tmp_path / "constraints.txt"
    text = (ROOT / "requirements.txt").read_text()
    requirements.write_text(re.sub(r"^apache-airflow==.*$", f"apache-airflow=={version}", text, flags=re.MULTILINE))
    airflow = ("apache-airflow", "apache-airflow-core", "apache-airflow-task-sdk")
    constraints.write_text("".join(lines for name, lines in pins().items() if name not in airflow))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    out = run(*uv, "pip", "compile", "-q", "--python-version", python, requirements, "-c", constraints)
    assert f"\napache-airflow=={version}\n" in f"\n{out}"


def test_compose_file_names_the_stand_ins_that_the_connections_use() -> None:
    services = compose()["services"]
    assert {"kafka", "warehouse", "dataflow"} <= set(services)
    hosts = re.findall(r"(kafka|warehouse|dataflow):(\d+)", (ROOT / "airflow_settings.yaml").read_text())
    assert hosts == [("kafka", "9092")]
    for name, port in (("warehouse", "8084"), ("dataflow", "8085"), ("dataflow", "8086")):
        assert f"port {port}" in services[name]["command"][-1]
    assert "PLAINTEXT://kafka:9092" in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    for service in services.values():
        assert set(service.get("networks", [])) <= set(compose()["networks"])
        named = [volume.split(":")[0] for volume in service.get("volumes", [])]
        assert {name for name in named if name != "."} <= set(compose()["volumes"])


def test_compose_file_gives_every_airflow_component_the_settings_that_dags_need() -> None:
    services = compose()["services"]
    for name in ("scheduler", "dag-processor", "triggerer", "api-server"):
        found = services[name]["environment"]
        for setting in ("MADHATTER_STORE", "MADHATTER_TEMPLATES", "DATAFLOW_API_ENDPOINT", "DATAFLOW_GRPC_ENDPOINT"):
            assert found[setting], f"{name} lacks {setting}"
        paths = found["PYTHONPATH"].split(":")
        for path in paths:
            assert (ROOT / Path(path).relative_to(ASTRO_HOME)).is_dir()
        assert paths[:2] == image_settings()["PYTHONPATH"].split(":")


def test_compose_file_mounts_the_store_where_the_settings_say() -> None:
    services = compose()["services"]
    for name in ("scheduler", "triggerer", "warehouse", "dataflow"):
        assert "stores:/data" in services[name]["volumes"]
    assert services["scheduler"]["environment"]["MADHATTER_STORE"].startswith("file:///data/")


def test_compose_file_has_only_services_that_can_start() -> None:
    assert set(compose()) <= {"x-stand-in", "x-airflow", "services", "networks", "volumes"}
    for name, service in compose()["services"].items():
        is_airflow = name in ("scheduler", "dag-processor", "triggerer", "api-server")
        assert is_airflow or service["image"], f"{name} has no image and is none of Astro's services"


def test_connections_are_the_three_that_the_platform_uses() -> None:
    parsed = yaml.safe_load((ROOT / "airflow_settings.yaml").read_text())["airflow"]
    by_id = {entry["conn_id"]: entry for entry in parsed["connections"]}
    assert set(by_id) == {"snowflake_default", "kafka_default", "google_cloud_default"}
    assert by_id["snowflake_default"]["conn_extra"]["database"] == "MADHATTER"
    assert by_id["kafka_default"]["conn_extra"]["bootstrap.servers"] == "kafka:9092"
    assert by_id["google_cloud_default"]["conn_extra"]["project"] == "madhatter"


def test_make_up_maps_every_host_of_the_connections_to_this_machine(tmp_path: Path) -> None:
    env = read_settings(ROOT / "airflow_settings.yaml", Instance(tmp_path, 41_000).hosts)
    snowflake, kafka = (json.loads(env[f"AIRFLOW_CONN_{name}_DEFAULT"])["extra"] for name in ("SNOWFLAKE", "KAFKA"))
    assert (snowflake["host"], snowflake["port"]) == ("127.0.0.1", 41_000 + OFFSETS["warehouse"])
    assert kafka["bootstrap.servers"] == f"127.0.0.1:{41_000 + OFFSETS['kafka']}"


def test_packages_file_is_there_for_astro() -> None:
    assert (ROOT / "packages.txt").exists()


def test_no_registry_address_and_no_path_of_a_machine_is_in_the_packaging() -> None:
    for name in ("requirements.txt", "requirements/local.txt", "Dockerfile", "docker-compose.override.yml"):
        text = (ROOT / name).read_text()
        assert "index-url" not in text
        assert not re.search(r"/(home|Users|work|root)/", text), name
        assert os.sep + "tmp" + os.sep not in text
