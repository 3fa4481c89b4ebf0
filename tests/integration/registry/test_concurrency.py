"""Many change the same models and projects at once: one order, nothing in between."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from prefect_lume.errors import LumeError, NotFoundError
from prefect_lume.registry import ModelDBService, SubflowEntry
from prefect_lume.registry.records import RegistryEvent

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "registry_survival.py"
DATABASES = [
    "sqlite",
    *(
        pytest.param(name, marks=pytest.mark.service(name))
        for name in ("mysql", "mariadb", "postgresql")
    ),
]
THREADS = 6
#: Seconds until a thread that should come to an end is taken for stuck.
PATIENCE = 200


@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_processes_promote_and_one_is_live(engine: Engine, url: str) -> None:
    """Six processes promote twelve deployments: always one live, no gap, no loss.

    ``benchmarks/registry_survival.py`` does the same with 16 processes for 30 s.
    """
    command = [sys.executable, str(BENCHMARK), "--url", url, "--processes=6"]
    done = subprocess.run(
        [*command, "--promotions=25"],
        check=False,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert ": 150 promotions in " in done.stdout
    assert done.stdout.endswith(": complete\n")


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run calls in threads that begin together; return results or errors."""
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        together.wait(PATIENCE)
        try:
            return call()
        except LumeError as error:
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls, timeout=PATIENCE))


@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_equal_things_stored_at_once_are_one(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """Of equal models, versions, projects and flows one is stored, with one event."""
    models = at_once([lambda: lab.add_model(registry)] * THREADS)
    assert len(set(models)) == 1
    numbers = at_once(
        [lambda: lab.add_deployment(registry, models[0], "1", tags={"k": "v"})]
        * THREADS
    )
    assert len(set(numbers)) == 1
    names = at_once([lambda: registry.store_project("test")] * THREADS)
    assert names == ["test"] * THREADS
    flows = at_once(
        [
            lambda: registry.store_flow(
                flow_id="t",
                flow_name="track",
                project_name="test",
                deployment_id=numbers[0],
            )
        ]
        * THREADS
    )
    assert flows == ["t"] * THREADS
    kinds = [event.kind for event in registry.get_history()[::-1]]
    assert kinds == [
        "model.stored",
        "deployment.stored",
        "deployment.promoted",
        "project.stored",
        "flow.stored",
    ]
    lab.check_ledger(registry, engine)


@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_alias_moved_and_tag_set_at_once(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """Each move of an alias and each value of a tag begins where the last one ended."""
    model = lab.add_model(registry)
    numbers = [lab.add_deployment(registry, model, str(n)) for n in range(THREADS)]
    aliases = at_once(
        [lambda n=n: registry.set_alias(model, "candidate", n) for n in numbers]
    )
    tags = at_once(
        [
            lambda n=n: registry.tag_deployment(numbers[0], {"by": str(n)})
            for n in range(THREADS)
        ]
    )
    for events in (aliases, tags):
        events.sort(key=lambda event: event.number)
        for one, next_one in itertools.pairwise(events):
            assert next_one.before == one.after
    found = registry.get_deployment_by_alias(model, "candidate")
    assert {"candidate": found.deployment_id} == aliases[-1].after
    assert registry.get_deployment(version="0").tags == tags[-1].after
    lab.check_ledger(registry, engine)


@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_project_renamed_by_many_at_once(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """One gives the project its name; the others are told that it is gone."""
    at = lab.fill(registry)
    told = at_once(
        [lambda n=n: registry.rename_project("test", f"name {n}") for n in range(5)]
        + [lambda: registry.promote(at.first)]
    )
    (renamed,) = [item for item in told[:-1] if isinstance(item, RegistryEvent)]
    errors = [item for item in told[:-1] if item is not renamed]
    assert {type(error) for error in errors} == {NotFoundError}
    name = renamed.after["project_name"]
    assert [p.project_name for p in registry.get_projects()] == ["empty", name]
    assert {flow.project.project_name for flow in registry.get_flows()} == {name}
    assert registry.get_live_deployment(at.model).deployment_id == at.first
    lab.check_ledger(registry, engine)


@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_flow_removed_by_many_at_once(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """One removes a flow, with one event; the others are told that it is gone."""
    at = lab.fill(registry)
    registry.store_flow(
        flow_id="s", flow_name="s", project_name="test", deployment_id=at.idle
    )
    told = at_once(
        [
            *[lambda: registry.delete_flow("s")] * (THREADS - 1),
            lambda: registry.delete_deployment(at.idle),
        ]
    )
    assert told.count(None) in {1, 2}
    assert told[-1] is None
    assert {type(item) for item in told} <= {type(None), NotFoundError}
    kinds = [event.kind for event in registry.get_history(flow_id="s")]
    assert kinds == ["flow.deleted", "flow.stored"]
    lab.check_ledger(registry, engine)


@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_flow_removed_while_it_is_made_part(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """A flow is removed or takes part in a flow-of-flows; who was late is told why."""
    lab.fill(registry)
    for n in range(5):
        registry.store_flow(flow_id=f"s{n}", flow_name=f"s{n}", project_name="test")
        part = SubflowEntry(f"s{n}", "only", 1)
        removed, stored = at_once(
            [
                lambda n=n: registry.delete_flow(f"s{n}"),
                lambda n=n, part=part: registry.store_flow_of_flows(
                    parent_flow_id=f"c{n}",
                    parent_flow_name=f"c{n}",
                    project_name="empty",
                    subflows=[part],
                ),
            ]
        )
        if removed is None:
            assert isinstance(stored, NotFoundError)
        else:
            assert stored == f"c{n}"
            assert "take part in" in str(removed)
    lab.check_ledger(registry, engine)
