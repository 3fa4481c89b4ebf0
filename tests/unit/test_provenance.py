"""From a number back to its source, and from a release to all that it made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from prefect_lume.config import Context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import NotFoundError
from prefect_lume.pipelines import Batch
from prefect_lume.pipelines.rows import Kind
from prefect_lume.provenance import (
    MOST_LISTED,
    produced_by,
    trace_result,
    trace_run,
)
from prefect_lume.results import Result
from prefect_lume.testing.pipelines_told import at, flow_run, object_run, tell

LOCK = "version: 1\nmetadata: {}\npackage: []\n"


@pytest.fixture
def context(tmp_path):
    """Embedded services in a folder of their own."""
    return Context(LumeServices(home=str(tmp_path / "lume")))


@pytest.fixture
def runs(sample_runs, context):
    return sample_runs(context.pipeline_storage())


@pytest.fixture
def deployment(context):
    """A registered deployment with all that a walk ends at."""
    registry = context.model_db_service()
    registry.store_project("linac", description="The injector linac")
    model_id = registry.store_model(
        author="A. Modeller",
        laboratory="slac",
        facility="lcls",
        beampath="cu_hxr",
        description="Injector",
    )
    return registry.store_deployment(
        version="1.4.0",
        model_id=model_id,
        package_import_name="injector",
        source="git+https://example.org/injector@v1.4.0",
        sha256="ab" * 32,
        image="registry.example/injector:1.4",
        lock=LOCK,
    )


def store(context, run, number=1, **more):
    """Store result documents of a run, and return the first one's reference."""
    service = context.results_db_service()
    project = more.pop("project_name", "linac")
    references = [
        service.store(
            Result(
                project_name=project,
                flow_run_id=run,
                inputs={"k": n, "run": run},
                outputs={"sigma": n / 3},
                **more,
            )
        )
        for n in range(number)
    ]
    return references[0]


class TestFromANumber:
    def test_one_call_walks_to_source_and_lock(self, context, runs, deployment):
        """Document, run, deployment with source, sha256, image and lock, model."""
        run = runs.chain(deployment_id=deployment, project_name="linac")
        trace = trace_result(context, store(context, run, deployment_id=deployment))
        assert trace.document.outputs == {"sigma": 0.0}
        assert trace.execution.id == run
        assert trace.execution.pipeline_id == "injector"
        assert trace.deployment.source == "git+https://example.org/injector@v1.4.0"
        assert trace.deployment.sha256 == "ab" * 32
        assert trace.deployment.image == "registry.example/injector:1.4"
        assert trace.deployment.lock == LOCK
        assert trace.deployment.model.description == "Injector"
        assert trace.project.description == "The injector linac"
        assert trace.parents == trace.children == ()

    def test_a_reference_may_be_json_or_narrowed(self, context, runs):
        """What travels between flows is enough to walk from."""
        reference = store(context, runs.chain()).narrowed("outputs", ["sigma"])
        trace = trace_result(context, reference.model_dump(mode="json"))
        assert trace.document.unique_hash == reference.unique_hash

    def test_the_run_tells_the_deployment_if_the_document_does_not(
        self, context, runs, deployment
    ):
        """A document without a deployment is traced by its run's."""
        run = runs.chain(deployment_id=deployment)
        trace = trace_result(context, store(context, run))
        assert trace.deployment_id == deployment

    def test_an_object_of_a_pipeline_is_found(self, context, runs):
        """A document of an object's flow run leads to the pipeline and the object."""
        run = runs.mapped(objects=3)
        storage = context.pipeline_storage()
        row = storage.find(Kind.RESULT, {"parent_id": run})[1]
        trace = trace_result(context, store(context, row.flow_run_id))
        assert trace.execution.id == run
        assert trace.pipeline_result.index == 1
        assert trace.pipeline_result.pipeline_object == {"phase": 10}
        assert trace.documents.total == 1

    def test_a_run_that_was_not_recorded_is_nothing(self, context, deployment):
        """Without records the walk still reaches the deployment."""
        reference = store(context, "never-recorded", deployment_id=deployment)
        trace = trace_result(context, reference)
        assert trace.execution is None
        assert trace.documents.total == 0
        assert trace.deployment.version == "1.4.0"

    def test_a_deployment_that_is_gone_is_nothing(self, context, runs):
        """A number that the registry does not have stays a number."""
        trace = trace_result(context, store(context, runs.chain(), deployment_id=99))
        assert (trace.deployment_id, trace.deployment) == (99, None)
        assert trace.project_name == "linac"
        assert trace.project is None

    def test_a_document_that_is_not_there_is_an_error(self, context, runs):
        """A reference to nothing is not found."""
        reference = store(context, runs.chain())
        wrong = reference.model_copy(update={"unique_hash": "0" * 64})
        with pytest.raises(NotFoundError):
            trace_result(context, wrong)


class TestFromARun:
    def test_parents_and_children(self, context, runs):
        """The nearest parent comes first; children are the oldest first."""
        top = runs.flow("top", [(0, "Running")])
        middle = runs.flow("middle", [(1, "Running")], parent_run_id=top)
        low = [runs.chain(2 + n, parent_run_id=middle) for n in range(2)]
        assert [row.id for row in trace_run(context, low[0]).parents] == [middle, top]
        trace = trace_run(context, middle)
        assert [row.id for row in trace.children] == low
        assert trace.child_count == 2

    def test_a_subflow_of_an_object_has_the_pipeline_as_parent(self, context, runs):
        """Parents are executions, also where an object's flow run called."""
        run = runs.mapped(objects=2)
        storage = context.pipeline_storage()
        row = storage.find(Kind.RESULT, {"parent_id": run})[0]
        child = runs.chain(2, parent_run_id=row.flow_run_id)
        assert [row.id for row in trace_run(context, child).parents] == [run]

    def test_a_circle_ends(self, context, runs):
        """Stored parents that form a circle are followed once."""
        runs.flow("a", [(0, "Running")], run_id="a", parent_run_id="b")
        runs.flow("b", [(0, "Running")], run_id="b", parent_run_id="a")
        assert [row.id for row in trace_run(context, "a").parents] == ["b"]

    def test_many_children_are_counted_and_some_listed(self, context, runs):
        """Of many subflows the number is told."""
        top = runs.flow("top", [(0, "Running")])
        for n in range(MOST_LISTED + 3):
            runs.flow("low", [(n, "Running")], parent_run_id=top)
        trace = trace_run(context, top)
        assert len(trace.children) == MOST_LISTED
        assert trace.child_count == MOST_LISTED + 3

    def test_documents_of_all_projects_the_newest_first(self, context, runs):
        """Result documents are counted by project; the newest are listed."""
        run = runs.chain()
        store(context, run, 25)
        later = datetime.now(UTC) + timedelta(minutes=1)
        last = store(context, run, project_name="other", date_modified=later)
        store(context, "another run", 2)
        documents = trace_run(context, run).documents
        assert documents.total == 26
        assert documents.by_project == {"linac": 25, "other": 1}
        assert len(documents.newest) == MOST_LISTED
        assert documents.newest[0].unique_hash == last.unique_hash

    def test_documents_of_more_objects_than_fit_a_page(self, context, runs):
        """Those of every object's flow run count, be there thousands."""
        storage = context.pipeline_storage()
        run, objects = "run-1", 2100
        facts = [object_run(run, n, f"flow-run-{n}") for n in range(objects)]
        storage.record(Batch(flow_runs=[flow_run(run, is_mapped=True), *facts]))
        for n in (0, 1999, 2050, objects - 1):
            store(context, f"flow-run-{n}")
        store(context, run)
        documents = trace_run(context, run).documents
        assert documents.total == len(documents.newest) == 5

    def test_documents_of_every_attempt(self, context, runs):
        """What an object's flow run stored before it began again is found as well."""
        storage = context.pipeline_storage()
        run, facts = "run-1", object_run("run-1", 0, "flow-run-0")
        storage.record(Batch(flow_runs=[flow_run(run, is_mapped=True)]))
        for n, state in enumerate(["Running", "Failed", "Scheduled", "Running"]):
            storage.record(tell(facts, state, at(n)))
            store(context, "flow-run-0", project_name=f"project-{n}")
        assert trace_run(context, run).documents.total == 4

    def test_the_project_of_a_deployment_from_the_environment(
        self, context, runs, deployment
    ):
        """A run that knows only its deployment is of the project of its flow."""
        context.model_db_service().store_flow(
            flow_id="a Prefect server's",
            flow_name="injector",
            project_name="linac",
            deployment_id=deployment,
        )
        trace = trace_run(context, runs.chain(deployment_id=deployment))
        assert trace.execution.project_name is None
        assert trace.project_name == trace.project.project_name == "linac"
        other = runs.flow("other", [(0, "Running")], deployment_id=deployment)
        assert trace_run(context, other).project_name is None

    def test_an_unknown_run_is_an_error(self, context):
        """A run that was not recorded is not found, with nothing configured, too."""
        with pytest.raises(NotFoundError, match="'nothing'"):
            trace_run(context, "nothing")


class TestFromADeployment:
    def test_runs_and_documents(self, context, runs, deployment):
        """All executions by status, and all documents, with the newest."""
        good = runs.chain(deployment_id=deployment)
        bad = runs.scan(100, points=30, deployment_id=deployment)
        runs.chain(200, deployment_id=deployment + 1)
        store(context, good, 3, deployment_id=deployment)
        store(context, bad, 1, deployment_id=deployment + 1)
        made = produced_by(context, deployment)
        assert made.deployment.version == "1.4.0"
        assert (made.executions.done, made.executions.failed) == (1, 1)
        assert [row.id for row in made.newest] == [bad, good]
        assert made.documents.total == 3
        assert len(produced_by(context, deployment, limit=1).newest) == 1

    def test_nothing_made_yet(self, context, deployment):
        """A deployment that never ran made nothing."""
        made = produced_by(context, deployment)
        assert made.executions.total == made.documents.total == 0

    def test_an_unknown_deployment_is_an_error(self, context):
        """A number that the registry does not have is not found."""
        with pytest.raises(NotFoundError):
            produced_by(context, 12)
