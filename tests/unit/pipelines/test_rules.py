"""The status rules: as functions, and over any reports against a model of them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from prefect_lume.pipelines import Pipeline, PipelineTask, PipelineTaskStatus
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import ResultRow, TaskResultRow
from prefect_lume.pipelines.rules import (
    Below,
    Failure,
    Own,
    apply,
    fold,
    is_superseded,
    summarise,
)
from prefect_lume.testing.pipelines_generated import rows_of
from prefect_lume.testing.pipelines_model import StatusModel
from prefect_lume.testing.pipelines_told import at, flow_run, tell

S = PipelineTaskStatus
RUN = flow_run("run")
statuses = st.sampled_from(list(S))


def change(state, seconds, **how):
    """Return one change of a flow run."""
    return tell(RUN, state, at(seconds), **{"id": f"{state} {seconds}", **how}).changes[
        0
    ]


class Reports(RuleBasedStateMachine):
    """Builds a run and reports any statuses on any of its objects, in any order."""

    def __init__(self):
        super().__init__()
        self.storage = MemoryPipelineResultsStorage()
        self.model = None
        self.seen = {}
        self.numbers = itertools.count()

    @initialize(
        objects=st.integers(0, 2), tasks=st.lists(st.integers(1, 2), max_size=2)
    )
    def build(self, objects, tasks):
        """Build a run of up to two objects and two tasks, mapped or not."""
        pipeline = Pipeline(
            "p",
            [
                PipelineTask(f"t{number}", objects=[0] * count if count > 1 else None)
                for number, count in enumerate(tasks)
            ],
            objects=list(range(objects)) or None,
        )
        self.storage.build_pipeline_execution(pipeline, "run")
        self.model = StatusModel(self.storage, "run")
        self.nodes = list(self.model.nodes.values())

    @precondition(lambda self: self.model is not None)
    @rule(place=st.integers(0, 99), status=statuses)
    def report(self, place, status):
        """Report a status on one of the objects."""
        self._report(self.nodes[place % len(self.nodes)], status)

    @precondition(lambda self: self.model is not None)
    @rule(place=st.integers(0, 99))
    def end_well(self, place):
        """Report the end of a task, so that ends further up are reached."""
        leaves = [node for node in self.nodes if not node.children]
        self._report(leaves[place % len(leaves)], S.DONE)

    @precondition(lambda self: self.model is not None)
    @rule(place=st.integers(0, 99), status=statuses)
    def set_and_save(self, place, status):
        """Set a status on an object, and save it."""
        node = self.nodes[place % len(self.nodes)]
        message = f"saved {next(self.numbers)}"
        found = self.model.get_object(node)
        if not self.model.report(node, status, message):
            return
        found.set_status(status)
        found.set_message(message)
        found.save()

    def _report(self, node, status):
        message = f"report {next(self.numbers)}"
        expected = self.model.report(node, status, message)
        found = self.model.get_object(node)
        assert found.report_status_change(status, message) is expected
        assert found.get_status() is node.status

    @invariant()
    def follows_the_rules(self):
        """The storage says what the model says; what was stamped stays."""
        if self.model is None:
            return
        self.model.check()
        for key, row in rows_of(self.storage, "run").items():
            before = self.seen.get(key)
            if before is not None:
                if before["status"] is not row["status"]:
                    assert before["status"].has_advanced(row["status"])
                if before["status"].is_final:
                    assert {**before, "last_at": None} == {**row, "last_at": None}
                if before["started"] is not None:
                    assert before["started"] == row["started"]
            self.seen[key] = row


Reports.TestCase.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None
)


class TestReports(Reports.TestCase):
    """Random reports follow the rules: model-checked."""


def test_every_interleaving_of_a_small_run_follows_the_rules():
    """All orders of reports by two tasks and by those above, one by one."""
    pipeline = Pipeline("p", [PipelineTask("t", objects=[1, 2])])
    reports = [
        (2, S.RUNNING),
        (2, S.DONE),
        (3, S.RUNNING),
        (3, S.RUNTIME_ERROR),
        (1, S.DONE),
        (0, S.CONFIG_ERROR),
    ]
    for number, order in enumerate(itertools.permutations(reports)):
        storage = MemoryPipelineResultsStorage()
        storage.build_pipeline_execution(pipeline, "run")
        model = StatusModel(storage, "run")
        execution, result, _, *leaves = model.nodes.values()
        objects = [execution, result, *leaves]
        for place, status in order:
            node, message = objects[place], f"{number} {place} {status}"
            expected = model.report(node, status, message)
            found = model.get_object(node)
            assert found.report_status_change(status, message) is expected
        model.check()


def test_the_furthest_status_counts_and_the_first_end_stays():
    """Changes are folded by their times, in whatever order they are given."""
    changes = [
        change("Scheduled", 0),
        change("Running", 2),
        change("Failed", 4),
        change("Completed", 5),
    ]
    for order in itertools.permutations(changes):
        own = fold(order)
        assert own.status is S.RUNTIME_ERROR
        assert own.final == changes[2]
        assert own.latest == changes[3]
        assert own.started == at(2)
        assert own.is_over


@pytest.mark.parametrize(
    ("states", "status", "again"),
    [
        (["Running", "AwaitingRetry"], S.RUNNING, 1),
        (["Running", "Failed", "AwaitingRetry"], S.RUNNING, 2),
        (["Running", "Failed", "Pending", "Running", "Completed"], S.DONE, 2),
        (["Running", "Failed", "Scheduled", "Pending"], S.RUNNING, 2),
        (["Cancelled", "Scheduled"], S.PENDING, 1),
        (["Pending", "NotReady"], S.CANCELLED, None),
        (["Running", "Retrying", "Completed"], S.DONE, None),
        (["Scheduled", "Pending", "Running"], S.RUNNING, None),
        (["Pending", "Cached"], S.DONE, None),
    ],
)
def test_a_run_that_begins_again_is_open_again(states, status, again):
    """Waiting for a retry opens a run; a first wait, and a last one, do not."""
    own = fold([change(state, when) for when, state in enumerate(states)])
    assert own.status is status
    assert own.again_at == (None if again is None else at(again))


def test_an_inferred_end_counts_unless_something_came_later():
    """It gives way to later reports and is no report itself."""
    gone = change("Crashed", 5, inferred=True)
    assert fold([change("Running", 1), gone]).final == gone
    assert fold([change("Running", 6), gone]).final is None
    assert fold([change("Completed", 2), gone]).final.state_name == "Completed"
    assert fold([gone]).latest is None


@pytest.mark.parametrize(
    ("failed", "status", "message"),
    [(4, S.CANCELLED, "by hand"), (2, S.RUNTIME_ERROR, "no beam")],
)
def test_what_fails_after_a_run_was_told_to_stop_was_cancelled(failed, status, message):
    """A task that crashed as its run was cancelled does not make it a failed run."""
    reported = [
        change("Running", 1),
        change("Cancelling", 3, message="by hand"),
        change("Cancelled", 5, message="This run was cancelled."),
    ]
    failure = Failure(at(failed), "task", S.RUNTIME_ERROR, "no beam")
    for told in (reported[:2], reported):
        row = ResultRow(id="result", run_id="run")
        apply(row, fold(told), Below(total=1, failure=failure))
        assert (row.status, row.message) == (status, message)
        assert row.completed == at(failed)
    again = [*reported, change("AwaitingRetry", 6), change("Running", 7)]
    later = Failure(at(8), "task", S.RUNTIME_ERROR, "no beam")
    row = ResultRow(id="result", run_id="run")
    apply(row, fold(again), Below(total=1, failure=later))
    assert row.status is S.RUNTIME_ERROR


def test_is_over_is_not_known_of_what_prefect_does_not_run():
    """Only what Prefect told of can be over for Prefect."""
    assert fold([]).is_over is None
    assert fold([change("Running", 1)]).is_over is False
    assert fold([change("Crashed", 1, inferred=True)]).is_over is True


def test_rows_below_are_taken_together():
    """Counts, first start, last end and first failure; superseded ones apart."""
    rows = [
        TaskResultRow(
            id="a", run_id="r", status=S.DONE, started=at(1), completed=at(5)
        ),
        TaskResultRow(
            id="b", run_id="r", status=S.RUNNING, started=at(2), last_at=at(2)
        ),
        TaskResultRow(
            id="c", run_id="r", status=S.CANCELLED, completed=at(3), message="no"
        ),
        TaskResultRow(id="d", run_id="r"),
        TaskResultRow(id="e", run_id="r", status=S.RUNNING, superseded=True),
    ]
    assert summarise(rows) == Below(
        total=4,
        pending=1,
        done=1,
        started=at(1),
        completed=at(5),
        last_at=at(2),
        failure=Failure(at(3), "c", S.CANCELLED, "no"),
    )
    assert summarise(rows, superseded=True) == Below(total=1)


def test_only_what_did_not_end_well_before_is_superseded():
    """Done objects of an earlier attempt keep counting; so does the first attempt."""
    row = TaskResultRow(id="a", run_id="r", status=S.RUNTIME_ERROR, last_at=at(3))
    assert is_superseded(row, at(4))
    assert not is_superseded(row, at(3))
    assert not is_superseded(row, None)
    row.status = S.DONE
    assert not is_superseded(row, at(4))


def test_an_error_above_cancels_what_is_open_only():
    """An open row is cancelled, not before it last changed; an ended one stays."""
    error = change("Failed", 3, status=S.CONFIG_ERROR, message="no lattice")
    row = TaskResultRow(id="a", run_id="r")
    apply(row, fold([change("Running", 5)]), None, error)
    assert (row.status, row.completed) == (S.CANCELLED, at(5))
    assert "pipeline execution above ended as CONFIG_ERROR" in row.message
    apply(row, fold([change("Running", 5), change("Completed", 6)]), None, error)
    assert (row.status, row.completed) == (S.DONE, at(6))
    apply(row, Own(), None, None)
    assert (row.status, row.message, row.completed) == (S.PENDING, "", None)
