"""Small flows that tests chain: importable by a worker, as a user's module is."""

from __future__ import annotations

import time
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import numpy as np
from prefect import flow, task

from prefect_lume.results import FileReference, ResultReference
from prefect_lume.tasks import load_file, load_result, save_file, store_result

save_text = save_file.with_options(name="save_text")
store_numbers = store_result.with_options(name="store_numbers")


class Colour(Enum):
    """An enum that a task returns."""

    RED = "red"


@task
def numbers(n: int) -> Any:
    """Return an array of which every element has no short decimal form."""
    return np.arange(n) * 0.1


@task
def unstorable() -> Any:
    """Return what no codec knows."""
    return object()


@task(name="twice")
def called_twice(value: int) -> int:
    """Return a value; called more than once in a flow."""
    return value


@flow
def generate(
    n: int = 4, kind: Literal["linear", "square"] = "linear"
) -> dict[str, Any]:
    """Make numbers, a file and a stored result.

    Args:
        n: How many numbers.
        kind: What they are.
    """
    values = numbers(n)
    unstorable()
    called_twice(1)
    called_twice(2)
    save_text(f"{kind} {n}", "note.txt", format="text")
    store_numbers(
        {"n": n},
        {"values": values, "nested": {"peak": float(values[-1]), "list": [1, 2]}},
    )
    return {"n": n, "half": n / 2}


@flow
def consume(
    values: list[float],
    note: FileReference,
    result: ResultReference,
    peak: float,
    made: dict[str, float],
    scale: float = 2.0,
) -> dict[str, Any]:
    """Take one value of every kind and return what it saw.

    Args:
        values: From a task, as it is.
        note: A file.
        result: A stored result, by its reference.
        peak: One value of a stored result.
        made: What a flow returned.
        scale: A factor.
    """
    stored = load_result(result)
    return {
        "values": values,
        "note": load_file(note),
        "stored": stored.outputs["values"].tolist(),
        "peak": peak,
        "made": made,
        "scaled": sum(values) * scale,
    }


@flow
async def asynchronous(values: list[float]) -> int:
    """Return how many values there are, asynchronously."""
    return len(values)


@flow
def meet(folder: str, me: str, other: str, patience: float = 120.0) -> str:
    """Wait until the other one has come too: both must run at the same time."""
    Path(folder, me).touch()
    deadline = time.monotonic() + patience
    while not Path(folder, other).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{other} did not come")
        time.sleep(0.02)
    return me


@flow
def count(folder: str, name: str, value: Any = None, fail_first: bool = False) -> int:
    """Add a line to a file for each run, and fail the first time if asked to."""
    path = Path(folder, name)
    with path.open("a") as stream:
        stream.write("run\n")
    runs = len(path.read_text().splitlines())
    if fail_first and runs == 1:
        raise RuntimeError(f"{name} fails the first time")
    return runs


@flow
def wait(seconds: float) -> float:
    """Sleep, so that somebody can cancel it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.05)
    return seconds


@flow
def big(n: int) -> list[float]:
    """Return a list that is too large for a parameter."""
    return [0.1 * i for i in range(n)]


@flow
def colours() -> Colour:
    """Return an enum."""
    return Colour.RED


@flow
def echo(value: Any) -> Any:
    """Return the parameter."""
    return value


@flow
def opaque() -> Any:
    """Return what no codec knows."""
    return object()
