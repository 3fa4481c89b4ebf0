"""Progress on the error stream, so that the output stays readable by a script."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.logging.configuration import setup_logging
from prefect.logging.handlers import PrefectConsoleHandler
from prefect.settings import (
    PREFECT_SERVER_ANALYTICS_ENABLED,
    PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
    temporary_settings,
)
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Steps:
    """Steps of a long command, each with a spinner while it runs and its time after.

    On something that is not a terminal each step is a line when it ends.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
        )

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the steps while the block runs."""
        if not self._console.is_terminal:
            yield
            return
        with self._progress:
            yield

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Show one step while the block runs."""
        task = self.start(title)
        try:
            yield
        except BaseException:
            self.finish(task, title, failed=True)
            raise
        self.finish(task, title)

    def start(self, title: str) -> int:
        """Show that a step has started, and return its number."""
        if not self._console.is_terminal:
            self._console.print(f"… {title}")
        return int(self._progress.add_task(title, total=1))

    def finish(self, task: int, title: str, failed: bool = False) -> None:
        """Show that a step has ended."""
        if not self._console.is_terminal:
            self._console.print(f"{'✗' if failed else '✓'} {title}")
        text = f"[red]{title} failed[/]" if failed else title
        self._progress.update(task, completed=1, description=text)  # type: ignore[arg-type]


class Watcher:
    """Shows each subflow as a step while it runs."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._running: dict[str, int] = {}

    def __call__(self, subflow: str, event: str) -> None:
        title = f"Running {subflow}"
        if event == "started":
            self._running[subflow] = self._steps.start(title)
        elif subflow in self._running:
            failed = event != "completed"
            self._steps.finish(self._running.pop(subflow), title, failed)


@contextmanager
def quiet_prefect(level: int = logging.WARNING) -> Iterator[None]:
    """Keep Prefect's console to warnings; its server still gets every log line.

    Prefect's temporary server, where one is needed, is given two minutes to start (on a
    small or busy machine the 20 seconds that Prefect gives are too few) and sends no
    usage statistics. The console stays quiet until the process ends, since the
    temporary server says goodbye only then.
    """
    setup_logging()
    for name in ("", "prefect", "prefect.flow_runs", "prefect.task_runs"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, PrefectConsoleHandler):
                # Prefect sets the handlers' levels again whenever a flow starts.
                handler.addFilter(lambda record: record.levelno >= level)
    patient = {
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 120,
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
    }
    with temporary_settings(patient):
        yield
