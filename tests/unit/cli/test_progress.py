"""Progress: steps on a terminal and elsewhere."""

import io

import pytest
from rich.console import Console

from prefect_lume.cli._progress import Steps, Watcher


def steps_on(terminal):
    """Steps on a console whose text can be read."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=80)
    return Steps(console), console.file


def test_elsewhere_than_on_a_terminal_each_step_is_a_line():
    """Each step is a line when it starts and when it ends."""
    steps, text = steps_on(terminal=False)
    with steps.shown(), steps.step("Doing it"):
        pass
    assert text.getvalue() == "… Doing it\n✓ Doing it\n"


def test_a_step_that_fails_says_so():
    """An error ends the step as failed, and is raised on."""
    steps, text = steps_on(terminal=False)
    with pytest.raises(RuntimeError), steps.shown(), steps.step("Doing it"):
        raise RuntimeError
    assert "✗ Doing it" in text.getvalue()


def test_on_a_terminal_steps_have_a_mark_and_a_time():
    """On a terminal a finished step is shown with its mark and its time."""
    steps, text = steps_on(terminal=True)
    with steps.shown(), steps.step("Doing it"):
        pass
    assert "✓" in text.getvalue()
    assert "0:00:00" in text.getvalue()


def test_subflows_are_watched_side_by_side():
    """Subflows that run at the same time are steps of their own."""
    steps, text = steps_on(terminal=False)
    watcher = Watcher(steps)
    for subflow, event in (
        ("x", "started"),
        ("y", "started"),
        ("y", "completed"),
        ("x", "failed"),
    ):
        watcher(subflow, event)
    assert text.getvalue().splitlines() == [
        "… Running x",
        "… Running y",
        "✓ Running y",
        "✗ Running x",
    ]
