"""Many results at once, finding them, and showing them in the UI of their run."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from prefect_lume.config import open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import EncodingError, InvalidInputError
from prefect_lume.results import Result
from prefect_lume.tasks import (
    find_results,
    publish_result,
    store_result,
    store_results,
)


@pytest.fixture
def services(tmp_path):
    """Embedded services in a folder of their own."""
    return LumeServices(home=str(tmp_path / "lume"))


def artifacts_of(flow_run_id):
    wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        return {a.key: a for a in client.read_artifacts(artifact_filter=wanted)}


def test_a_scan_is_stored_at_once_and_found(services):
    """Every point of a scan knows its run, and a query finds the points."""

    @flow(name="scan")
    def scan():
        items = [({"k": k}, {"y": k * k}) for k in range(30)]
        references = store_results(items, services=services)
        query = {"inputs.k": {"$gte": 28}}
        return references, find_results(query, sort="-inputs.k", services=services)

    state = scan(return_state=True)
    references, points = state.result()
    assert len({r.unique_hash for r in references}) == 30
    assert [point.outputs["y"] for point in points] == [841, 784]
    assert points[0].flow_run_id == str(state.state_details.flow_run_id)
    assert points[0].reference() == references[29]


def test_one_item_that_cannot_be_stored_is_named(services):
    """The error says which item and how many; the others are stored."""
    items = [({"k": 1}, {}), ({"k": object()}, {}), ({"k": 3}, {})]
    with pytest.raises(EncodingError) as caught:
        store_results.fn(items, services=services)
    assert "item 1; 1 of 3" in caught.value.__notes__[0]
    assert open_context(services).results_db_service().count("default") == 2


@pytest.mark.parametrize(
    ("items", "words"),
    [(5, "pairs"), ([{"k": 1, "y": 2}], "Item 0"), ([({}, {}), ({}, 1)], "Item 1")],
)
def test_what_is_no_pair_is_refused(services, items, words):
    """Items are pairs of dicts; the message names the first that is not."""
    with pytest.raises(InvalidInputError, match=words):
        store_results.fn(items, services=services)


def test_a_type_is_a_class(services):
    """The name of a type is not enough to make a result."""
    with pytest.raises(InvalidInputError, match="result_type is Result"):
        store_result.fn({}, {}, result_type="Generic", services=services)


def test_a_run_shows_its_result(services):
    """The table and the picture are artifacts of the run and of the task."""

    @flow(name="shown")
    def shown():
        outputs = {"text": "a|b <b>*x*</b>", "at": "http://x", "wave": np.arange(10)}
        return store_result({"k": 1}, outputs, services=services, artifact=True)

    state = shown(return_state=True)
    name = f"result-{state.result().unique_hash[:12]}"
    found = artifacts_of(state.state_details.flow_run_id)
    assert set(found) == {name, f"{name}-plot"}
    table, picture = found[name], found[f"{name}-plot"]
    assert table.task_run_id is not None
    assert r"| outputs.text | 'a\|b \<b\>\*x\*\</b\>' |" in table.data
    assert r"| outputs.at | 'http\://x' |" in table.data
    assert picture.data.startswith("data:image/png;base64,iVBOR")
    assert state.result().unique_hash in table.description


def test_a_stored_result_is_published_on_the_run_that_made_it(services):
    """Published later and from elsewhere, the artifact belongs to the first run."""

    @flow(name="maker")
    def maker():
        return store_result({"k": 1}, {"y": 2}, services=services)

    @flow(name="publisher")
    def publisher(reference):
        publish_result(reference, key="golden-run", services=services)

    made = maker(return_state=True)
    publisher(made.result().model_dump(mode="json"))
    found = artifacts_of(made.state_details.flow_run_id)
    assert set(found) == {"golden-run"}
    assert found["golden-run"].task_run_id is None


def test_a_result_of_another_system_belongs_to_the_publishing_run(services):
    """A flow run id that is none of Prefect's does not keep it from being shown."""
    result = Result(project_name="p", flow_run_id="beam-time-7", inputs={"k": 1})
    reference = open_context(services).results_db_service().store(result)
    key = f"k{uuid.uuid4().hex}"

    @flow(name="publisher")
    def publisher():
        publish_result(reference, key=key, services=services)

    state = publisher(return_state=True)
    assert set(artifacts_of(state.state_details.flow_run_id)) == {key}
    with pytest.raises(InvalidInputError, match="small letters"):
        publish_result.fn(reference, key="Golden Run", services=services)
