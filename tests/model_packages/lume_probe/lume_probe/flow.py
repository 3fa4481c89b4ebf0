"""Flows that run in no time: tasks that run once, often, late, cached, or never."""

import time

from prefect import flow, task
from prefect.cache_policies import INPUTS, NO_CACHE

from prefect_lume.tasks import store_result

VERSION = "1.0"


@task(name="double", cache_policy=NO_CACHE)
def double(value: int) -> int:
    """Return twice the value; the first ones take the longest."""
    time.sleep(0.05 * (value < 2))
    return 2 * value


@task(name="cached", cache_policy=INPUTS, persist_result=True)
def cached(value: int) -> int:
    """Return three times the value, computed once for each."""
    return 3 * value


@task(name="add_up", cache_policy=NO_CACHE)
def add_up(values: list[int]) -> int:
    """Return the sum."""
    return sum(values)


@flow(name="scan", flow_run_name="scan of {number}")
def scan(number: int = 3) -> dict[str, int | str]:
    """Double some numbers, add them up, and store the sum."""
    total = add_up(double.map(range(number)))
    store_result(inputs={"number": number}, outputs={"total": total})
    return {"total": total, "version": VERSION}


@flow(name="reuse")
def reuse(first: int, second: int) -> int:
    """Compute twice what may be cached."""
    return cached(first) + cached(second)


@flow(name="later")
async def later(number: int = 1) -> int:
    """Return a double, asynchronously."""
    return double(number)


@flow(name="nothing")
def nothing() -> None:
    """Return nothing, and run no task."""


@flow(name="broken")
def broken() -> None:
    """Fail."""
    raise RuntimeError("no beam")
