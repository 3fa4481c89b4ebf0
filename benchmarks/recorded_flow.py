"""What recording costs a flow of 1,000 tasks, and whether anything is missing.

The flow runs recorded and not recorded, turn by turn, so that whatever else the
machine does hits both alike; the figure is the ratio of the medians. Each recorded run
must have every one of its 3,000 task-run changes.

    python benchmarks/recorded_flow.py --api-url http://127.0.0.1:4200/api --pairs 10
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STATES = 3


def main() -> None:
    """Measure, and print one JSON document."""
    options = _options()
    home = Path(tempfile.mkdtemp(prefix="lume-recorded-flow-"))
    os.environ |= {
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_LUME_HOME": str(home / "lume"),
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_LOGGING_TO_API_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    if options.api_url:
        os.environ["PREFECT_API_URL"] = options.api_url
    print(json.dumps(measure(options.tasks, options.pairs, options.url), indent=2))


def measure(tasks: int, pairs: int, url: str) -> dict[str, Any]:
    """Run pairs of a recorded and an unrecorded flow.

    Args:
        tasks: Task runs in each flow; half of them come of one `.map`.
        pairs: How many pairs.
        url: Where to record; the embedded database, if empty.
    """
    from prefect import flow, task

    from prefect_lume import recorded
    from prefect_lume.config import current_context
    from prefect_lume.pipelines.orm import OrmPipelineResultsStorage

    storage = (
        OrmPipelineResultsStorage(url=url)
        if url
        else current_context().pipeline_storage()
    )
    if url:
        storage.create_tables()  # type: ignore[attr-defined]

    @task
    def work(x: int) -> int:
        return x + 1

    @flow
    def thousand(count: int) -> str:
        from prefect.runtime import flow_run

        half = count // 2
        mapped = work.map(list(range(half)))
        single = [work.submit(x) for x in range(count - half)]
        [future.result() for future in (*mapped, *single)]
        return str(flow_run.id)

    followed = recorded(thousand, storage=storage)
    followed(count=20)
    thousand(count=20)
    times: dict[str, list[float]] = {"recorded": [], "plain": []}
    work_done: dict[str, list[float]] = {"recorded": [], "plain": []}
    complete = 0
    missing: list[int] = []
    for pair in range(pairs):
        kinds = [("recorded", followed), ("plain", thousand)]
        for name, run in kinds if pair % 2 else reversed(kinds):
            began, used = time.perf_counter(), time.process_time()
            run_id = run(count=tasks)
            times[name].append(time.perf_counter() - began)
            work_done[name].append(time.process_time() - used)
            if name == "recorded":
                found = states_of_tasks(storage, run_id)
                complete += found == STATES * tasks
                if found != STATES * tasks:
                    missing.append(STATES * tasks - found)
        print(
            f"{pair + 1}/{pairs}:",
            *(f"{name} {seconds[-1]:.2f} s" for name, seconds in times.items()),
            file=sys.stderr,
        )
    cpu = {name: statistics.median(seconds) for name, seconds in work_done.items()}
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    return {
        "tasks": tasks,
        "pairs": pairs,
        "median seconds": {name: round(value, 3) for name, value in medians.items()},
        "ratio of medians": round(medians["recorded"] / medians["plain"], 4),
        "median CPU seconds": {name: round(value, 3) for name, value in cpu.items()},
        "ratio of CPU": round(cpu["recorded"] / cpu["plain"], 4),
        "complete runs": complete,
        "missing changes": missing,
    }


def states_of_tasks(storage: Any, run_id: str) -> int:
    """Return how many changes of task runs are recorded of one run."""
    ids = [result.get_id() for result in storage.get_task_results(run_id=run_id)]
    return sum(map(len, storage.get_history(ids).values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--api-url", default="", help="Prefect's API; ephemeral if not")
    parser.add_argument("--url", default="", help="where to record; embedded if not")
    return parser.parse_args()


if __name__ == "__main__":
    main()
