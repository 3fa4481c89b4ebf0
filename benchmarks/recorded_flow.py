"""What recording costs a flow of 1,000 tasks, and whether anything is missing.

The flow runs recorded and not recorded, turn by turn, so that whatever else the
machine does hits both alike; the figure is the ratio of the medians, beside the ratios
of the pairs. Prefect's server takes task runs in for a minute and more afterwards:
`--drained` waits for that between two runs, so that none pays for the one before. Each
recorded run must have every one of its 3,000 task-run changes when it has returned.

    python benchmarks/recorded_flow.py --api-url http://127.0.0.1:4200/api --pairs 10
    python benchmarks/recorded_flow.py --api-url ... --runs-in-a-row 100
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
#: Seconds for which the server is waited for.
PATIENCE = 300.0


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
    bench = Bench(options.tasks, options.url)
    if options.runs_in_a_row:
        told = bench.run_in_a_row(options.runs_in_a_row)
    else:
        told = bench.compare(options.pairs, options.drained)
    print(json.dumps(told, indent=2))


class Bench:
    """A flow, recorded and not.

    Args:
        tasks: Task runs in each flow; half of them come of one `.map`.
        url: Where to record; the embedded database, if empty.
    """

    def __init__(self, tasks: int, url: str) -> None:
        from prefect import flow, task

        from prefect_lume import recorded
        from prefect_lume.config import current_context
        from prefect_lume.pipelines.orm import OrmPipelineResultsStorage

        self.tasks = tasks
        self.storage: Any = current_context().pipeline_storage()
        if url:
            self.storage = OrmPipelineResultsStorage(url=url)
            self.storage.create_tables()

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

        self.plain = thousand
        self.recorded = recorded(thousand, storage=self.storage)
        self.recorded(count=20)
        self.plain(count=20)

    def missing(self, run_id: str) -> int:
        """Return how many changes of task runs are not recorded of a run."""
        return STATES * self.tasks - states_of_tasks(self.storage, run_id)

    def run_in_a_row(self, runs: int) -> dict[str, Any]:
        """Record so many runs, one right after the other."""
        missing = []
        began = time.perf_counter()
        for number in range(runs):
            missing.append(self.missing(self.recorded(count=self.tasks)))
            print(f"{number + 1}/{runs}: missing {missing[-1]}", file=sys.stderr)
        return {
            "tasks": self.tasks,
            "runs": runs,
            "complete runs": missing.count(0),
            "missing changes": [number for number in missing if number],
            "seconds a run": round((time.perf_counter() - began) / runs, 2),
        }

    def compare(self, pairs: int, drained: bool) -> dict[str, Any]:
        """Run pairs of a recorded and an unrecorded flow.

        Args:
            pairs: How many.
            drained: Let the server come to rest between two runs.
        """
        clock: dict[str, list[float]] = {"recorded": [], "plain": []}
        cpu: dict[str, list[float]] = {"recorded": [], "plain": []}
        missing, after = [], []
        for pair in range(pairs):
            kinds = [("recorded", self.recorded), ("plain", self.plain)]
            for name, run in kinds if pair % 2 else reversed(kinds):
                began, used = time.perf_counter(), time.process_time()
                run_id = run(count=self.tasks)
                ended = time.perf_counter()
                clock[name].append(ended - began)
                if name == "recorded":
                    missing.append(self.missing(run_id))
                    wait_until_closed()
                    after.append(time.perf_counter() - ended)
                # With what the recording does afterwards.
                cpu[name].append(time.process_time() - used)
                if drained:
                    wait_for_server(run_id, self.tasks)
            print(
                f"{pair + 1}/{pairs}:",
                *(f"{name} {seconds[-1]:.2f} s" for name, seconds in clock.items()),
                file=sys.stderr,
            )
        return {
            "tasks": self.tasks,
            "pairs": pairs,
            "clock": ratios(clock),
            "CPU of the process": ratios(cpu),
            "seconds until all is recorded that only Prefect knows": round(
                statistics.median(after), 3
            ),
            "complete runs": missing.count(0),
            "missing changes": [number for number in missing if number],
        }


def ratios(seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians, their ratio, and the ratios of the pairs."""
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    pairs = zip(seconds["recorded"], seconds["plain"], strict=True)
    each = [recorded / plain for recorded, plain in pairs]
    return {
        "median seconds": {name: round(value, 3) for name, value in medians.items()},
        "ratio of medians": round(medians["recorded"] / medians["plain"], 4),
        "median of the pairs' ratios": round(statistics.median(each), 4),
        "pairs' ratios": [round(ratio, 3) for ratio in sorted(each)],
    }


def wait_until_closed() -> None:
    """Wait until nothing is recorded any more."""
    from prefect_lume.recorder.inprocess.recording import open_recordings

    while open_recordings():
        time.sleep(0.01)


def wait_for_server(run_id: str, tasks: int) -> None:
    """Wait until Prefect's server has taken in that all tasks of a run have ended."""
    from prefect.client.orchestration import get_client

    ended = {"state": {"type": {"any_": ["COMPLETED"]}}}
    body = {"flow_runs": {"id": {"any_": [run_id]}}, "task_runs": ended}
    deadline = time.monotonic() + PATIENCE
    with get_client(sync_client=True) as client:
        while client.request("POST", "/task_runs/count", json=body).json() < tasks:
            if time.monotonic() > deadline:
                raise SystemExit(f"Prefect's server has not all of run {run_id}.")
            time.sleep(0.5)


def states_of_tasks(storage: Any, run_id: str) -> int:
    """Return how many changes of task runs are recorded of one run."""
    ids = [result.get_id() for result in storage.get_task_results(run_id=run_id)]
    return sum(map(len, storage.get_history(ids).values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=1_000)
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument(
        "--runs-in-a-row",
        type=int,
        default=0,
        help="only record so many runs, and count those that are complete",
    )
    parser.add_argument(
        "--drained",
        action="store_true",
        help="let the server take everything in between two runs",
    )
    parser.add_argument("--api-url", default="", help="Prefect's API; ephemeral if not")
    parser.add_argument("--url", default="", help="where to record; embedded if not")
    return parser.parse_args()


if __name__ == "__main__":
    main()
