"""Runs and their digest in the Prefect UI, as artifacts."""

from __future__ import annotations

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from prefect_lume.config import open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import InvalidInputError, NotFoundError
from prefect_lume.tasks import publish_digest, publish_run


@pytest.fixture
def services(tmp_path):
    """Embedded services in a folder of their own."""
    return LumeServices(home=str(tmp_path / "lume"))


@pytest.fixture
def runs(sample_runs, services):
    return sample_runs(open_context(services).pipeline_storage())


def artifacts_of(flow_run_id):
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        return {a.key: a for a in client.read_artifacts(artifact_filter=wanted)}


def published(task, *arguments, **options):
    """Return the artifacts of a flow that runs a task."""

    @flow(name="publisher")
    def publisher():
        task(*arguments, **options)

    state = publisher(return_state=True)
    state.result()
    return artifacts_of(state.state_details.flow_run_id)


def test_the_digest_is_a_table(runs, services):
    """A row for each pipeline, with rate, average and last start, as text."""
    runs.chain()
    runs.scan(100)
    runs.flow("a|b <x>", [(200, "Running")])
    artifact = published(publish_digest, services=services)["pipelines"]
    lines = artifact.data.splitlines()
    assert lines[0].startswith("### Pipelines, 20")
    assert r"| a\|b \<x\> | 0 | 0 | 0 | 1 |  |  | 2026-01-31 12:03:20 |" in lines
    assert (
        "| injector | 1 | 1 | 0 | 0 | 100.0% | 11.8 s | 2026-01-31 12:00:00 |" in lines
    )
    assert artifact.task_run_id is not None


def test_the_digest_of_one_pipeline(runs, services):
    """Only the pipeline that was asked for, under the key that was."""
    runs.chain()
    runs.scan(100)
    found = published(publish_digest, "scan", key="scan-digest", services=services)
    assert "| scan |" in found["scan-digest"].data
    assert "injector" not in found["scan-digest"].data
    with pytest.raises(NotFoundError, match="Did you mean 'scan'"):
        publish_digest.fn("scam", services=services)


def test_an_empty_digest_says_so(services):
    """Nothing recorded is no error, so that a schedule may come first."""
    found = published(publish_digest, services=services)
    assert "No runs recorded yet" in found["pipelines"].data


def test_a_run_is_a_list_and_a_plot(runs, services):
    """Tasks with counts, failures with messages, and a picture."""
    run = runs.scan(points=30)
    found = published(publish_run, run, key="night", services=services)
    assert set(found) == {"night", "night-plot"}
    text = found["night"].data
    assert "- **prepare** DONE, 2.5 s" in text
    assert r"- **track** RUNTIME\_ERROR, 35.0 s: 28 done, 2 failed" in text
    assert r"    - \[3\] track-3 RUNTIME\_ERROR, 4.0 s, ValueError: the" in text
    assert found["night-plot"].data.startswith("data:image/png;base64,iVBOR")


def test_a_run_over_objects_names_them(runs, services):
    """Objects are listed with their tasks; a plot is left out on demand."""
    run = runs.mapped(objects=14)
    found = published(publish_run, run, plot=False, services=services)
    (artifact,) = found.values()
    assert artifact.key.startswith("run-")
    assert r"- **object 2** RUNTIME\_ERROR, 3.0 s, RuntimeError: no beam" in (
        artifact.data
    )
    assert "- … 12 more objects" in artifact.data


def test_wrong_keys_and_unknown_runs_are_errors(runs, services):
    """Nothing is published of what does not exist, or under an impossible key."""
    with pytest.raises(InvalidInputError, match="small letters"):
        publish_digest.fn(key="All Pipelines", services=services)
    with pytest.raises(NotFoundError):
        publish_run.fn("nothing", services=services)
