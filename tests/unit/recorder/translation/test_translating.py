"""Events as Prefect writes them become changes and facts."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prefect.utilities.text import truncated_to

from prefect_lume.pipelines.changes import FlowRunFacts
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind, result_id, task_execution_id
from prefect_lume.pipelines.status import PipelineTaskStatus
from prefect_lume.recorder.translation.translating import (
    Translator,
    flow_run_change,
    made_at,
    task_name,
    task_run_change,
    task_run_facts,
)

RUN = "b1ab3c88-fd7c-468e-a484-ebd19cd95b96"
FLOW = "7bb8e76a-517c-4fbc-a910-e129f207c0a7"
TASK_RUN = "01a1fa71-4e6b-7d4d-a58b-3de84467b294"
AT = "2026-11-20T19:31:32.{:06d}Z"


class Known:
    """A directory that knows some flow runs, and of others what is hinted."""

    def __init__(self, *facts: FlowRunFacts) -> None:
        self.runs = {item.flow_run_id: item for item in facts}

    def facts(
        self,
        flow_run_ids: Collection[str],
        hints: Mapping[str, FlowRunFacts] | None = None,
    ) -> dict[str, FlowRunFacts]:
        return {id_: self.runs.get(id_) or (hints or {})[id_] for id_ in flow_run_ids}


def flow_event(name: str, state_type: str | None, at: int, **more: Any) -> dict:
    """Return an event of the flow run, as the server writes it."""
    state = {"name": name, "type": state_type, **more} if state_type else None
    return {
        "id": f"flow-{name}-{at}",
        "event": f"prefect.flow-run.{name}",
        "occurred": AT.format(at),
        "resource": {
            "prefect.resource.id": f"prefect.flow-run.{RUN}",
            "prefect.resource.name": "great-crab",
            "prefect.run-count": "1",
        },
        "related": [
            {
                "prefect.resource.id": f"prefect.flow.{FLOW}",
                "prefect.resource.name": "parent",
                "prefect.resource.role": "flow",
            },
            {
                "prefect.resource.id": "prefect.tag.night",
                "prefect.resource.role": "tag",
            },
        ],
        "payload": {"validated_state": state} if state else {},
    }


def task_event(
    name: str, state_type: str, at: int, run_name: str = "sq-02d", **more: Any
) -> dict:
    """Return an event of the task run, as the flow's process writes it."""
    return {
        "id": f"task-{name}-{at}",
        "event": f"prefect.task-run.{name}",
        "occurred": AT.format(at),
        "resource": {
            "prefect.resource.id": f"prefect.task-run.{TASK_RUN}",
            "prefect.resource.name": run_name,
            "prefect.run-count": "1" if state_type != "PENDING" else "0",
            "prefect.orchestration": "client",
        },
        "related": [
            {
                "prefect.resource.id": f"prefect.flow-run.{RUN}",
                "prefect.resource.name": "great-crab",
                "prefect.resource.role": "flow-run",
            },
            {
                "prefect.resource.id": f"prefect.flow.{FLOW}",
                "prefect.resource.name": "parent",
                "prefect.resource.role": "flow",
            },
        ],
        "payload": {
            "validated_state": {"name": name, "type": state_type, **more},
            "task_run": {
                "name": run_name,
                "task_key": "sq-cfb90ecb",
                "dynamic_key": "02d1db23-142d-468d-9d0a-80c61194bd69",
            },
        },
    }


def a_run() -> list[dict]:
    """Return the events of a run with one task, in order."""
    return [
        flow_event("Pending", "PENDING", 1),
        flow_event("Running", "RUNNING", 2),
        task_event("Pending", "PENDING", 3),
        task_event("Running", "RUNNING", 4),
        flow_event("heartbeat", None, 5),
        task_event("Completed", "COMPLETED", 6, message="fine"),
        flow_event("Completed", "COMPLETED", 7),
    ]


def test_a_state_of_a_flow_run_changes_its_execution() -> None:
    """A flow run's event becomes a change of the execution, with all that it says."""
    event = flow_event("Failed", "FAILED", 9, message="it broke")
    batch = Translator(Known()).translate([event])
    (change,) = batch.changes
    assert (change.id, change.kind, change.target) == (event["id"], Kind.EXECUTION, RUN)
    assert change.status is PipelineTaskStatus.RUNTIME_ERROR
    assert change.message == "it broke"
    assert change.timestamp == datetime(2026, 11, 20, 19, 31, 32, 9, UTC)
    assert (change.state_type, change.state_name) == ("FAILED", "Failed")
    assert change.run_count == 1


def test_a_state_of_a_task_run_changes_its_result() -> None:
    """A task run's event becomes a change of the task result, with its facts."""
    batch = Translator(Known()).translate([task_event("Cached", "COMPLETED", 4)])
    (change,), (facts,) = batch.changes, batch.task_runs
    assert (change.kind, change.target) == (Kind.TASK_RESULT, TASK_RUN)
    assert change.run_id == facts.run_id == RUN
    assert facts.pipeline_result_id == result_id(RUN)
    assert (facts.task_id, facts.pipeline_task) == ("sq", "sq")
    assert facts.created == made_at(TASK_RUN)


def test_what_works_on_an_object_changes_a_pipeline_result() -> None:
    """The run on object 3 of a pipeline changes the pipeline's result number 3."""
    known = Known(FlowRunFacts(run_id="parent", flow_run_id=RUN, index=3))
    batch = Translator(known).translate(a_run())
    targets = {(change.kind, change.target) for change in batch.changes}
    assert targets == {
        (Kind.RESULT, result_id("parent", 3)),
        (Kind.TASK_RESULT, TASK_RUN),
    }
    assert {change.run_id for change in batch.changes} == {"parent"}
    assert batch.task_runs[0].pipeline_result_id == result_id("parent", 3)


def test_tasks_of_a_run_over_objects_are_left_out() -> None:
    """The flow run over all objects has no result to which a task could belong."""
    known = Known(FlowRunFacts(run_id=RUN, flow_run_id=RUN, is_mapped=True))
    batch = Translator(known).translate(a_run())
    assert {change.kind for change in batch.changes} == {Kind.EXECUTION}
    assert not batch.task_runs


def test_heartbeats_are_signs_of_life_and_no_changes() -> None:
    """The last heartbeat of a batch is when the run was last seen."""
    events = [flow_event("heartbeat", None, at) for at in (5, 30, 20)]
    batch = Translator(Known()).translate(events)
    assert not batch.changes
    (facts,) = batch.flow_runs
    assert facts.last_seen == datetime(2026, 11, 20, 19, 31, 32, 30, UTC)


def test_an_event_hints_at_what_the_server_may_know_no_more() -> None:
    """Flow, Prefect deployment, work pool and name come from the event's relations."""
    event = flow_event("Running", "RUNNING", 1)
    for role, id_ in (("deployment", "d-1"), ("work-pool", "p-1")):
        event["related"].append(
            {
                "prefect.resource.id": f"prefect.{role}.{id_}",
                "prefect.resource.name": f"the {role}",
                "prefect.resource.role": role,
            }
        )
    (facts,) = Translator(Known()).translate([event]).flow_runs
    assert (facts.pipeline_id, facts.flow_id) == ("parent", FLOW)
    assert (facts.prefect_deployment_id, facts.runner) == ("d-1", "the work-pool")
    assert (facts.run_name, facts.is_named) == ("great-crab", True)


@pytest.mark.parametrize(
    "event",
    [
        {"event": "prefect.work-pool.ready", "id": "1"},
        {"event": "prefect.flow-run.infrastructure-submitted", "id": "2"},
        {**task_event("Running", "RUNNING", 1), "related": []},
    ],
    ids=["of something else", "without a state", "of a task outside a flow"],
)
def test_other_events_are_left_out_silently(
    event: dict, caplog: pytest.LogCaptureFixture
) -> None:
    """What tells no state of a flow run or its tasks is no reason for a warning."""
    with caplog.at_level(logging.WARNING):
        assert not Translator(Known()).translate([event])
    assert not caplog.records


def _broken() -> dict[str, Any]:
    whole = task_event("Running", "RUNNING", 1)
    wrong: dict[str, Any] = {}
    for name, spoil in {
        "no id": lambda e: e.pop("id"),
        "no resource": lambda e: e.pop("resource"),
        "no resource id": lambda e: e["resource"].pop("prefect.resource.id"),
        "id of a flow run": lambda e: e["resource"].update(
            {"prefect.resource.id": f"prefect.flow-run.{RUN}"}
        ),
        "unknown type": lambda e: e["payload"]["validated_state"].update(type="ODD"),
        "type is a list": lambda e: e["payload"]["validated_state"].update(type=[1]),
        "no task run": lambda e: e["payload"].pop("task_run"),
        "no time": lambda e: e.update(occurred=None),
        "a wrong time": lambda e: e.update(occurred="noon"),
        "a time without a zone": lambda e: e.update(occurred="2026-11-20T19:31:32"),
        "payload is a text": lambda e: e.update(payload="RUNNING"),
        "relations are numbers": lambda e: e.update(related=[1]),
    }.items():
        event = copy.deepcopy(whole)
        spoil(event)
        wrong[name] = event
    return {**wrong, "no event": {}, "a text": "prefect.task-run.Running"}


@pytest.mark.parametrize("name", list(_broken()))
def test_a_broken_event_is_told_once_and_left_out(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What Prefect would not write costs a warning, and no other event is lost."""
    broken, whole = _broken()[name], a_run()
    translator = Translator(Known())
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            batch = translator.translate([broken, *whole, broken])
            assert len(batch) == len(whole) - 1
    assert len(caplog.records) == 1
    assert "left out" in caplog.text


def test_a_task_that_names_its_runs_keeps_both_names() -> None:
    """The task's name comes from the first name of the run, the run's from the last."""
    events = [
        task_event("Pending", "PENDING", 1, "Square it-02d"),
        task_event("Running", "RUNNING", 2, "shot 17"),
        task_event("Completed", "COMPLETED", 3, "shot 17"),
    ]
    for seed in range(6):
        shuffled = random.Random(seed).sample(events, 3)
        storage = MemoryPipelineResultsStorage()
        for part in (shuffled[:1], shuffled[1:]):
            storage.record(Translator(Known()).translate(part))
        (execution,) = storage.find(Kind.TASK_EXECUTION)
        (result,) = storage.find(Kind.TASK_RESULT)
        assert execution.pipeline_task == "Square it"  # type: ignore[attr-defined]
        assert result.name == "shot 17"  # type: ignore[attr-defined]


def test_a_flow_run_keeps_the_name_that_it_got_when_it_began() -> None:
    """The name that a flow gives its run stays, in whatever order it is told."""
    first, second = (
        flow_event("Pending", "PENDING", 1),
        flow_event("Running", "RUNNING", 2),
    )
    second["resource"]["prefect.resource.name"] = "shot 17"
    for events in ([first, second], [second, first]):
        storage = MemoryPipelineResultsStorage()
        for event in events:
            storage.record(Translator(Known()).translate([event]))
        assert storage.get_pipeline_execution(RUN).run_name == "shot 17"


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 8))
def test_order_and_repetition_of_events_do_not_matter(
    chance: random.Random, size: int
) -> None:
    """Shuffled, repeated and cut anywhere, the same events give the same rows."""
    want = MemoryPipelineResultsStorage()
    want.record(Translator(Known()).translate(a_run()))
    events = [*a_run(), *chance.sample(a_run(), 3)]
    chance.shuffle(events)
    storage, translator = MemoryPipelineResultsStorage(), Translator(Known())
    for start in range(0, len(events), size):
        storage.record(translator.translate(events[start : start + size]))
    for kind in Kind:
        assert storage.find(kind) == want.find(kind)


def test_a_suspended_run_begins_again() -> None:
    """Prefect runs the whole flow anew after a suspension: failures before are over."""
    events = [
        flow_event("Running", "RUNNING", 1),
        task_event("Failed", "FAILED", 2),
        flow_event("Suspended", "PAUSED", 3),
        flow_event("Resuming", "SCHEDULED", 4),
        flow_event("Late", "SCHEDULED", 5),
        flow_event("Pending", "PENDING", 6),
        flow_event("Submitting", "PENDING", 7),
        flow_event("Running", "RUNNING", 8),
        flow_event("Completed", "COMPLETED", 9),
    ]
    storage = MemoryPipelineResultsStorage()
    storage.record(Translator(Known()).translate(events))
    assert storage.get_pipeline_execution(RUN).get_status() is PipelineTaskStatus.DONE
    (result,) = storage.find(Kind.TASK_RESULT)
    assert result.superseded


def test_clocks_apart_do_not_make_a_task_run_begin_again() -> None:
    """A task run that is PENDING after its end has a submitter whose clock is ahead."""
    events = [
        flow_event("Running", "RUNNING", 1),
        task_event("Running", "RUNNING", 2),
        task_event("Completed", "COMPLETED", 3),
        task_event("Pending", "PENDING", 4),
    ]
    storage = MemoryPipelineResultsStorage()
    storage.record(Translator(Known()).translate(events))
    (result,) = storage.find(Kind.TASK_RESULT)
    assert (result.status, result.superseded) == (PipelineTaskStatus.DONE, False)


def test_a_run_over_objects_gets_the_link_of_the_runs_on_them() -> None:
    """The pipeline's flow is registered, not the flow that runs it over objects."""
    known = Known(
        FlowRunFacts(
            run_id="parent",
            flow_run_id=RUN,
            index=0,
            project_name="injectors",
            deployment_id=7,
        )
    )
    storage = MemoryPipelineResultsStorage()
    storage.record(Translator(known).translate(a_run()))
    execution = storage.get_pipeline_execution("parent")
    assert execution.get_project_name() == "injectors"
    assert execution.get_deployment_id() == 7


def test_facts_of_a_task_run_are_told_once_a_batch() -> None:
    """Three states of one task run need its facts once."""
    batch = Translator(Known()).translate(a_run())
    assert len(batch.task_runs) == len(batch.flow_runs) == 1
    assert batch.task_runs[0].is_named


def test_long_messages_are_cut_as_prefect_cuts_them() -> None:
    """The API keeps a message whole and the events do not: both give the same."""
    facts = FlowRunFacts(run_id=RUN, flow_run_id=RUN)
    fields: dict[str, Any] = {
        "id": "1",
        "type": "FAILED",
        "name": "Failed",
        "timestamp": datetime(2026, 11, 20, tzinfo=UTC),
    }
    long = "begin" + "x" * 300_000 + "end"
    told = flow_run_change(facts, **fields, message=long).message
    assert told == task_run_change(facts, TASK_RUN, **fields, message=long).message
    assert told == truncated_to(100_000, long)
    assert len(told) < 100_100


def test_a_task_run_with_an_id_of_another_kind_begins_with_its_first_state() -> None:
    """Where an id tells no time, the first known state does."""
    seen = datetime(2026, 11, 20, tzinfo=UTC)
    facts = task_run_facts(
        FlowRunFacts(run_id=RUN, flow_run_id=RUN),
        "no-uuid",
        task_key="sq-cfb90ecb",
        name="sq-0",
        first_seen=seen,
    )
    assert facts.created == seen
    assert facts.pipeline_task == "sq"
    assert task_execution_id(facts.pipeline_result_id, facts.task_id)


def test_facts_are_those_of_the_first_state_however_the_events_come() -> None:
    """A later event that comes first does not tell when a task run began."""
    events = [task_event("Running", "RUNNING", 7), task_event("Pending", "PENDING", 3)]
    for event in events:
        event["resource"]["prefect.resource.id"] = "prefect.task-run.no-uuid"
    batch = Translator(Known()).translate(events)
    assert [facts.created for facts in batch.task_runs] == [
        datetime.fromisoformat(AT.format(3))
    ]


@pytest.mark.parametrize(
    ("key", "run_name", "dynamic_key", "name"),
    [
        ("sq-cfb90ecb", "sq-02d", "02d1db23-142d", "sq"),
        ("sq-cfb90ecb", "Square-02d", "02d1db23-142d", "Square"),
        ("sq-cfb90ecb", "Square-0", "0", "Square"),
        ("sq-cfb90ecb", "shot 5", "02d1db23-142d", "sq"),
        ("sq-cfb90ecb", "-02d", "02d1db23-142d", "sq"),
        ("two-words-cfb90ecb", "x", "", "two-words"),
        ("package.module.Callable", "x", "", "package.module.Callable"),
    ],
)
def test_the_name_of_a_task(
    key: str, run_name: str, dynamic_key: str, name: str
) -> None:
    """A task's name is what stands before the key of its run, else its function's."""
    assert task_name(key, run_name, dynamic_key) == name
