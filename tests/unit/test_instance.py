"""An instance's paths, ports, secrets and environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local import services, table
from local.connections import read_settings, snowflake_arguments
from local.instance import ROOT, Instance
from local.services import configuration


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path / "home with space", 40_000)


def run_local(command: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """`python -m local` on an instance in home."""
    line = [sys.executable, "-m", "local", command]
    own = os.environ | {"MADHATTER_HOME": str(home), "BROKERS": ""} | env
    return subprocess.run(line, cwd=ROOT, env=own, capture_output=True, text=True, check=False)


def test_two_instances_share_no_port(tmp_path: Path) -> None:
    one, other = Instance(tmp_path, 18_000), Instance(tmp_path, 19_000)
    assert not {one.port(n) for n in ("kafka", "airflow")} & {other.port(n) for n in ("kafka", "airflow")}


def test_unusable_port_base_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT_BASE", "eighty")
    with pytest.raises(SystemExit, match="PORT_BASE=eighty: give a number"):
        Instance.current()


@pytest.mark.parametrize("text", ["0", "2", "4", "x", "-1", "3.0"])
def test_number_of_brokers_that_no_cluster_has_ends_with_a_sentence(text: str, tmp_path: Path) -> None:
    done = run_local("status", tmp_path, BROKERS=text)
    assert done.returncode == 1
    assert done.stderr == f"BROKERS={text}: give 1, or 3 for a platform that a broker's death does not stop\n"


@pytest.mark.parametrize(("known", "asked"), [("1", "3"), ("3", "1")])
def test_instance_with_a_log_keeps_its_number_of_brokers(tmp_path: Path, known: str, asked: str) -> None:
    (tmp_path / "brokers").write_text(f"{known}\n")
    done = run_local("up", tmp_path, BROKERS=asked)
    assert done.returncode == 1
    assert f"BROKERS={asked}: the log of {tmp_path} was made for {known}" in done.stderr
    assert f"`make clean`, which removes the data, and then `make up BROKERS={asked}`" in done.stderr
    assert "Traceback" not in done.stderr


def test_instance_remembers_its_brokers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADHATTER_HOME", str(tmp_path))
    monkeypatch.setenv("PORT_BASE", "40000")
    monkeypatch.setenv("BROKERS", "")
    assert Instance.current().brokers == 1
    (tmp_path / "brokers").write_text("3\n")
    assert Instance.current().bootstrap == "127.0.0.1:40092,127.0.0.1:40094,127.0.0.1:40096"


def test_log_from_before_there_was_a_choice_has_one_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "kafka").mkdir(parents=True)
    (tmp_path / "data" / "kafka" / "meta.properties").touch()
    monkeypatch.setenv("MADHATTER_HOME", str(tmp_path))
    monkeypatch.setenv("BROKERS", "3")
    assert Instance.current().brokers == 1


def test_one_broker_takes_no_port_or_process_of_three(tmp_path: Path) -> None:
    one, three = Instance(tmp_path, 40_000), Instance(tmp_path, 40_000, brokers=3)
    more = {"kafka-2", "kafka-2_controller", "kafka-3", "kafka-3_controller"}
    assert set(services.ports(three)) - set(services.ports(one)) == more
    assert set(services.all_of(three)) - set(services.all_of(one)) == {"kafka-2", "kafka-3"}
    assert "kafka-2" not in configuration(one)


def test_clients_find_every_broker_where_a_proxy_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADHATTER_PROXY_SHIFT", "100")
    assert Instance(tmp_path, 40_000).bootstrap == "127.0.0.1:40192"
    assert Instance(tmp_path, 40_000, brokers=3).bootstrap == "127.0.0.1:40192,127.0.0.1:40194,127.0.0.1:40196"


def test_secrets_are_made_once_and_for_the_owner_only(instance: Instance) -> None:
    made = instance.secrets
    assert Instance(instance.home, 40_000).secrets == made
    assert (instance.home / "instance.json").stat().st_mode & 0o077 == 0
    assert len(made.jwt_secret) >= 64


@pytest.mark.parametrize("text", ["", '{"admin_password": "x', "[]", '{"admin_password": "x"}', "\x00\x00"])
def test_broken_secrets_are_named_with_their_cure(tmp_path: Path, text: str) -> None:
    (tmp_path / "instance.json").write_text(text)
    done = run_local("up", tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path}/instance.json is broken" in done.stderr
    assert "remove the file and `make up`" in done.stderr
    assert "Traceback" not in done.stderr


def test_platform_starts_on_the_hour(instance: Instance) -> None:
    assert instance.secrets.platform_start[13:] == ":00:00+00:00"


def test_another_airflows_settings_reach_no_process(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW__SMTP__SMTP_HOST", "elsewhere")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    env = instance.environment()
    assert env["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert "AIRFLOW__SMTP__SMTP_HOST" not in env
    assert "PYTHONDONTWRITEBYTECODE" not in env


def test_callers_cadence_reaches_the_processes(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADHATTER_CADENCE", "* * * * *")
    assert instance.environment()["MADHATTER_CADENCE"] == "* * * * *"


def test_login_is_required(instance: Instance) -> None:
    assert "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS" not in instance.environment()


def test_connections_point_at_this_instance(instance: Instance) -> None:
    env = instance.environment()
    kafka = json.loads(env["AIRFLOW_CONN_KAFKA_DEFAULT"])
    assert kafka["extra"]["bootstrap.servers"] == "127.0.0.1:40092"
    warehouse = snowflake_arguments(env)
    assert (warehouse["host"], warehouse["port"], warehouse["database"]) == ("127.0.0.1", 40084, "MADHATTER")


def test_settings_file_names_the_compose_services_only() -> None:
    conns = read_settings(ROOT / "airflow_settings.yaml", {})
    assert json.loads(conns["AIRFLOW_CONN_KAFKA_DEFAULT"])["extra"]["bootstrap.servers"] == "kafka:9092"
    assert json.loads(conns["AIRFLOW_CONN_SNOWFLAKE_DEFAULT"])["extra"]["host"] == "warehouse"


def test_unknown_field_of_a_connection_is_named(tmp_path: Path) -> None:
    file = tmp_path / "airflow_settings.yaml"
    file.write_text("airflow: {connections: [{conn_id: a, conn_type: kafka, conn_hots: x}]}")
    with pytest.raises(ValueError, match=r"airflow_settings\.yaml: connection a has unknown fields \['conn_hots'\]"):
        read_settings(file, {})


def test_variables_of_the_settings_file_are_read(tmp_path: Path) -> None:
    file = tmp_path / "airflow_settings.yaml"
    file.write_text("airflow: {variables: [{variable_name: region, variable_value: eu}]}")
    assert read_settings(file, {}) == {"AIRFLOW_VAR_REGION": "eu"}


def test_percent_sign_in_a_path_survives_supervisords_settings(tmp_path: Path) -> None:
    assert "100%%" in configuration(Instance(tmp_path / "100%", 40_000))


def test_table_aligns_numbers_right_and_shows_null_as_nothing() -> None:
    assert table.text(["name", "n"], [["a", 5], ["bb", 10], [None, None]]) == "name   n\n----  --\na      5\nbb    10\n"


def test_csv_quotes_what_needs_quotes() -> None:
    assert table.csv(["a"], [['say "hi", twice'], [None]]) == 'a\n"say ""hi"", twice"\n""\n'


@pytest.mark.parametrize(("rate", "size"), [(None, "256"), ("5", "256"), ("1000", "1000"), ("fast", "256")])
def test_log_of_a_laptop_is_bounded_by_a_size_that_holds_what_a_slice_may_reach_back_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: str | None, size: str
) -> None:
    if rate is not None:
        monkeypatch.setenv("MADHATTER_LIVE_RATE", rate)
    found = Instance(tmp_path, 40_000).settings
    assert (found["MADHATTER_KEEP_LOG_DAYS"], found["MADHATTER_KEEP_LOG_MB"]) == ("0", size)


def test_callers_own_bounds_of_the_log_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MADHATTER_KEEP_LOG_DAYS", "3")
    assert Instance(tmp_path, 40_000).settings["MADHATTER_KEEP_LOG_DAYS"] == "3"
