"""The stand-in behaves as the Dataflow service where the platform depends on it."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest
from google.api_core.exceptions import NotFound
from google.cloud.dataflow_v1beta3 import JobsV1Beta3Client, MessagesV1Beta3Client, MetricsV1Beta3Client
from googleapiclient.errors import HttpError

from local.dataflow import process
from local.dataflow.__main__ import IMAGES
from local.dataflow.jobs import Jobs
from local.dataflow.templates import Image, Template, read_images
from tests.dataflow.stand_in import PLACE, Server, until

PLACE_RPC = {"project_id": "madhatter", "location": "europe-west1"}


def pipelines(job_id: str) -> list[psutil.Process]:
    """The job's processes under its wrapper."""
    return [one for one in process.members(job_id) if "tests.dataflow.pipeline" in one.cmdline()[2:3]]


def running(job_id: str, output: Path) -> psutil.Process:
    """The pipeline's process, once it has said that it started."""
    until(lambda: output.exists() and "start" in output.read_text(), "the pipeline starts")
    return pipelines(job_id)[0]


def test_launched_beam_pipeline_ends_as_done_in_both_protocols(server: Server, tmp_path: Path) -> None:
    job_id = server.launch("count", output=tmp_path / "out", count="1000")
    assert server.end_state(job_id) == "DONE"
    assert (tmp_path / "out").read_text().split() == ["start", "1000", "end"]
    job = server.rpc(JobsV1Beta3Client).get_job(request={**PLACE_RPC, "job_id": job_id})
    assert (job.name, job.current_state.name, job.type_.name) == ("count", "JOB_STATE_DONE", "JOB_TYPE_BATCH")
    messages = server.rpc(MessagesV1Beta3Client).list_job_messages(request={**PLACE_RPC, "job_id": job_id})
    assert [message.message_text for message in messages][-1] == "The job is done."
    assert server.rpc(MetricsV1Beta3Client).get_job_metrics(request={**PLACE_RPC, "job_id": job_id}).metric_time


def test_a_name_has_one_active_job_and_is_free_again_after_it(server: Server, tmp_path: Path) -> None:
    first = server.launch("slice-1", output=tmp_path / "out", wait_for=tmp_path / "go")
    with pytest.raises(HttpError, match="There is already an active job named slice-1") as refused:
        server.launch("slice-1", output=tmp_path / "other")
    assert refused.value.status_code == 409
    (tmp_path / "go").touch()
    assert server.end_state(first) == "DONE"
    second = server.launch("slice-1", output=tmp_path / "out")
    assert server.end_state(second) == "DONE"
    assert [job["id"] for job in server.listed(name="slice-1")] == [second, first]


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({}, "output: Missing required parameter"),
        ({"output": "/tmp/out", "colour": "red"}, "colour: Unrecognized parameter"),
        ({"output": "/tmp/out", "count": "many"}, r"count: Value 'many' does not match the regex \[0-9\]\+"),
    ],
)
def test_parameters_that_the_metadata_forbids_are_refused(
    server: Server, parameters: dict[str, str], complaint: str
) -> None:
    with pytest.raises(HttpError, match=complaint) as refused:
        server.launch("wrong", **parameters)
    assert refused.value.status_code == 400
    assert server.listed() == []


def test_a_job_name_that_dataflow_forbids_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(HttpError, match="Invalid job name 'Slice_1'"):
        server.launch("Slice_1", output=tmp_path / "out")


def test_a_template_that_is_missing_is_named(server: Server) -> None:
    body = {"launchParameter": {"jobName": "lost", "containerSpecGcsPath": "gs://templates/lost.json"}}
    with pytest.raises(HttpError, match=r"Unable to open template file: gs://templates/lost\.json") as refused:
        server.jobs.flexTemplates().launch(**PLACE, body=body).execute()
    assert refused.value.status_code == 404


def test_a_job_that_is_unknown_is_not_found_in_both_protocols(server: Server) -> None:
    with pytest.raises(HttpError, match="could not be found") as refused:
        server.job("2026-01-01_00_00_00-1")
    assert refused.value.status_code == 404
    with pytest.raises(NotFound):
        server.rpc(JobsV1Beta3Client).get_job(request={**PLACE_RPC, "job_id": "2026-01-01_00_00_00-1"})


def test_a_failed_pipeline_tells_its_exception_and_its_log(server: Server, tmp_path: Path) -> None:
    job_id = server.launch("fails", output=tmp_path / "out", fail="offset 17 is gone")
    assert server.end_state(job_id) == "FAILED"
    first, log, *_ = server.error(job_id).splitlines()
    assert first == "The pipeline ended with exit code 1: ValueError: offset 17 is gone"
    assert "offset 17 is gone" in Path(log.removeprefix("Log: ")).read_text()


def test_a_killed_pipeline_fails_and_the_signal_is_named(server: Server, tmp_path: Path) -> None:
    job_id = server.launch("killed", output=tmp_path / "out", wait_for=tmp_path / "never")
    running(job_id, tmp_path / "out").kill()
    assert server.end_state(job_id) == "FAILED"
    assert "killed by SIGKILL" in server.error(job_id)


def test_a_killed_wrapper_takes_its_pipeline_along(server: Server, tmp_path: Path) -> None:
    job_id = server.launch("bare", output=tmp_path / "out", wait_for=tmp_path / "never")
    pipeline = running(job_id, tmp_path / "out")
    os.kill(server.record(job_id)["pid"], signal.SIGKILL)
    assert server.end_state(job_id) == "FAILED"
    assert "without an exit code" in server.error(job_id)
    until(lambda: not pipeline.is_running(), "the pipeline is gone")


def test_a_cancelled_job_ends_and_cannot_be_cancelled_again(server: Server, tmp_path: Path) -> None:
    job_id = server.launch("cancelled", output=tmp_path / "out", wait_for=tmp_path / "never")
    pipeline = running(job_id, tmp_path / "out")
    cancel = server.jobs.jobs().update(**PLACE, jobId=job_id, body={"requestedState": "JOB_STATE_CANCELLED"})
    assert cancel.execute()["currentState"] == "JOB_STATE_CANCELLING"
    assert server.end_state(job_id) == "CANCELLED"
    until(lambda: not pipeline.is_running(), "the pipeline is gone")
    with pytest.raises(HttpError, match="terminal state JOB_STATE_CANCELLED"):
        cancel.execute()


def test_only_a_streaming_job_can_be_drained(server: Server, tmp_path: Path) -> None:
    drain = {"requestedState": "JOB_STATE_DRAINED"}
    batch = server.launch("batch", output=tmp_path / "batch", wait_for=tmp_path / "never")
    with pytest.raises(HttpError, match="Only streaming jobs can be drained"):
        server.jobs.jobs().update(**PLACE, jobId=batch, body=drain).execute()
    stream = server.launch("stream", "streaming", output=tmp_path / "stream", wait_for=tmp_path / "never")
    running(stream, tmp_path / "stream")
    server.jobs.jobs().update(**PLACE, jobId=stream, body=drain).execute()
    assert server.end_state(stream) == "DRAINED"


def test_a_list_comes_in_pages_and_by_state(server: Server, tmp_path: Path) -> None:
    names = ["one", "two", "three"]
    ids = {name: server.launch(name, output=tmp_path / name, wait_for=tmp_path / f"{name}.go") for name in names}
    (tmp_path / "two.go").touch()
    server.end_state(ids["two"])
    seen, request = [], server.jobs.jobs().list(**PLACE, pageSize=2)
    while request is not None:
        reply = request.execute()
        seen.append([job["name"] for job in reply["jobs"]])
        request = server.jobs.jobs().list_next(request, reply)
    assert seen == [["three", "two"], ["one"]]
    assert [job["name"] for job in server.listed(filter="TERMINATED")] == ["two"]
    by_rpc = server.rpc(JobsV1Beta3Client).list_jobs(request={**PLACE_RPC, "page_size": 1})
    assert [job.name for job in by_rpc] == ["three", "two", "one"]


@pytest.mark.parametrize("ends_meanwhile", [True, False])
@pytest.mark.parametrize(("fail", "state"), [(None, "DONE"), ("broken", "FAILED")])
def test_a_killed_server_leaves_its_jobs_at_work_and_the_next_one_knows_their_ends(
    server: Server, tmp_path: Path, ends_meanwhile: bool, fail: str | None, state: str
) -> None:
    more = {"fail": fail} if fail else {}
    job_id = server.launch("adopted", output=tmp_path / "out", wait_for=tmp_path / "go", **more)
    pipeline = running(job_id, tmp_path / "out")
    server.end(signal.SIGKILL)
    assert pipeline.is_running()
    if ends_meanwhile:
        (tmp_path / "go").touch()
        until(lambda: not process.members(job_id), "the pipeline ends")
    server.start()
    if not ends_meanwhile:
        assert server.job(job_id)["currentState"] == "JOB_STATE_RUNNING"
        (tmp_path / "go").touch()
    assert server.end_state(job_id) == state
    assert (tmp_path / "out").read_text().split().count("start") == 1


def test_a_stopped_server_ends_its_pipelines_and_the_next_one_starts_them_again(server: Server, tmp_path: Path) -> None:
    job_id = server.launch("paused", output=tmp_path / "out", wait_for=tmp_path / "go")
    running(job_id, tmp_path / "out")
    server.end(signal.SIGTERM)
    assert not process.members(job_id)
    (tmp_path / "go").touch()
    server.start()
    assert server.end_state(job_id) == "DONE"
    assert (tmp_path / "out").read_text().split() == ["start", "start", "end"]


def test_a_job_folder_that_cannot_be_read_is_forgotten_and_the_others_stay(server: Server, tmp_path: Path) -> None:
    broken, whole = (server.launch(name, output=tmp_path / name) for name in ("broken", "whole"))
    assert server.end_state(broken) == server.end_state(whole) == "DONE"
    server.end(signal.SIGKILL)
    (server.state / "jobs" / broken / "job.json").write_text("")
    server.start()
    assert [job["id"] for job in server.listed()] == [whole]


def test_what_the_stand_in_does_not_serve_is_refused_and_not_passed_over(server: Server) -> None:
    launch = {"jobName": "new", "containerSpecGcsPath": "gs://templates/new.json", "update": True}
    with pytest.raises(HttpError, match="update is not served by the local stand-in") as refused:
        server.jobs.flexTemplates().launch(**PLACE, body={"launchParameter": launch}).execute()
    assert refused.value.status_code == 501


def test_a_port_in_use_is_named(server: Server, tmp_path: Path) -> None:
    second = Server(tmp_path / "second", server.port, server.grpc_port).spawn()
    assert second.wait(timeout=30) == 1
    assert f"127.0.0.1:{server.port} is in use" in (tmp_path / "second.log").read_text()


def test_a_state_folder_has_one_server(server: Server) -> None:
    second = Server(server.state, server.port + 1, server.grpc_port + 1).spawn()
    assert second.wait(timeout=30) == 1
    assert f"{server.state} is in use by another server" in Path(f"{server.state}.log").read_text()


def test_old_ended_jobs_go_with_their_folders(tmp_path: Path) -> None:
    async def three() -> list[str]:
        jobs = Jobs(tmp_path, keep=2)
        watch = asyncio.create_task(jobs.watch())
        image = Image(env={"FLEX_TEMPLATE_PYTHON_PY_FILE": "tests/dataflow/pipeline.py"}, options=[])
        for name in ("one", "two", "three"):
            job = jobs.launch("p", "l", name, Template("tests", False, None), image, {"output": str(tmp_path / name)})
            async with asyncio.timeout(30):
                while job.is_active:
                    await asyncio.sleep(0.02)
        watch.cancel()
        return [str(job.api["name"]) for job in jobs.find("p", "l")]

    assert asyncio.run(three()) == ["three", "two"]
    assert len(list((tmp_path / "jobs").iterdir())) == 2


def test_a_long_log_keeps_its_newer_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOG_LIMIT_BYTES", 1000)
    (tmp_path / "log").write_text("old\n" * 500 + "new\n")
    process.bound_log(tmp_path)
    text = (tmp_path / "log").read_text()
    assert text.startswith("[older lines were dropped]\n")
    assert text.endswith("old\nnew\n")
    assert len(text) < 600


def test_the_images_file_of_the_product_names_pipelines_by_module() -> None:
    images = read_images(IMAGES)
    assert images["hourly"].module == "include.beam.hourly"
