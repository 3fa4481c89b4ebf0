"""A storage of pipeline results in a folder: one JSON file for each run."""

import copy
import fcntl
import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from prefect_lume.errors import StorageError
from prefect_lume.pipelines import (
    PipelineExecution,
    PipelineResult,
    PipelineSession,
    PipelineStorage,
    StateChange,
    TaskExecution,
    TaskResult,
)
from prefect_lume.pipelines.filters import check_time, check_where, select
from prefect_lume.pipelines.rows import (
    ExecutionRow,
    Kind,
    ResultRow,
    Row,
    TaskExecutionRow,
    TaskResultRow,
)
from prefect_lume.pipelines.rules import Below, summarise

T = TypeVar("T")


class FilePipelineExecution(PipelineExecution):
    """A pipeline execution in a file."""

    def get_file(self) -> Path:
        """Return the file that this run is in."""
        return self.storage.file_of(self.get_run_id())


class FilePipelineResult(PipelineResult):
    """A pipeline result in a file."""


class FileTaskExecution(TaskExecution):
    """A task execution in a file."""


class FileTaskResult(TaskResult):
    """A task result in a file."""


@dataclass
class Run:
    """What a file holds: the rows of each kind by id, and the changes by id."""

    pipeline_execution: dict[str, ExecutionRow] = field(default_factory=dict)
    pipeline_result: dict[str, ResultRow] = field(default_factory=dict)
    task_execution: dict[str, TaskExecutionRow] = field(default_factory=dict)
    task_result: dict[str, TaskResultRow] = field(default_factory=dict)
    history: dict[str, StateChange] = field(default_factory=dict)

    def rows(self, kind: Kind) -> dict[str, Row]:
        """Return the rows of a kind by id."""
        return getattr(self, kind.value)


RUN = TypeAdapter(Run)
POSITIONS = TypeAdapter(dict[str, datetime])


class FileSession(PipelineSession):
    """One unit of work: reads whole runs, and writes those that it changed."""

    def __init__(self, storage: "FilePipelineStorage") -> None:
        self.storage = storage
        self.runs: dict[str, Run] = {}
        self.changed: set[str] = set()

    def lock(self, run_ids: Sequence[str]) -> None:
        # The storage lets in one session at a time: what is left is to read.
        for run_id in run_ids:
            if run_id not in self.runs:
                self.runs[run_id] = self.storage.read(run_id) or Run()

    def get(self, kind: Kind, ids: Collection[str]) -> dict[str, Row]:
        if kind is Kind.EXECUTION:
            self.lock(list(ids))
        wanted = set(ids)
        return {r.id: copy.copy(r) for r in self._all(kind) if r.id in wanted}

    def put(self, kind: Kind, rows: Sequence[Row]) -> None:
        self.lock([row.run_id for row in rows])
        for row in rows:
            self.runs[row.run_id].rows(kind)[row.id] = copy.copy(row)
            self.changed.add(row.run_id)

    def _all(self, kind: Kind) -> Iterator[Row]:
        return (row for run in self.runs.values() for row in run.rows(kind).values())

    def get_below(self, kind: Kind, parent_id: str) -> list[Row]:
        return [copy.copy(r) for r in self._all(kind) if r.parent_id == parent_id]

    def get_open(self, run_id: str) -> dict[Kind, list[Row]]:
        return {
            kind: [
                copy.copy(row)
                for row in self._all(kind)
                if row.run_id == run_id and not row.status.is_final
            ]
            for kind in list(Kind)[1:]
        }

    def summarise(self, kind: Kind, parent_ids: Collection[str]) -> dict[str, Below]:
        below: dict[str | None, list[Row]] = {id_: [] for id_ in parent_ids}
        for row in self._all(kind):
            if row.parent_id in below:
                below[row.parent_id].append(row)
        return {id_: summarise(below[id_]) for id_ in parent_ids}

    def add_history(self, changes: Sequence[StateChange]) -> int:
        self.lock([change.run_id for change in changes])
        new = 0
        for change in changes:
            history = self.runs[change.run_id].history
            if change.id not in history:
                history[change.id] = change
                self.changed.add(change.run_id)
                new += 1
        return new

    def get_history(self, targets: Collection[str]) -> dict[str, list[StateChange]]:
        found: dict[str, list[StateChange]] = {id_: [] for id_ in targets}
        for run in self.runs.values():
            for change in run.history.values():
                if change.target in found:
                    found[change.target].append(change)
        return found


class FilePipelineStorage(PipelineStorage):
    """Runs in a folder. Writers wait for each other, readers never wait."""

    execution_class = FilePipelineExecution
    result_class = FilePipelineResult
    task_execution_class = FileTaskExecution
    task_result_class = FileTaskResult

    def __init__(self, directory: str | Path) -> None:
        self.root = Path(directory).absolute()
        self.root.mkdir(parents=True, exist_ok=True)

    def file_of(self, run_id: str) -> Path:
        """Return the file of a run: by a hash, as an id may be no file's name."""
        return self.root / f"run-{hashlib.sha256(run_id.encode()).hexdigest()}.json"

    def read(self, run_id: str) -> Run | None:
        """Return what is kept of a run."""
        return self._read(self.file_of(run_id), RUN)

    def transaction(self, work: Callable[[PipelineSession], T]) -> T:
        with self._locked():
            session = FileSession(self)
            done = work(session)
            for run_id in session.changed:
                self._write(self.file_of(run_id), RUN.dump_json(session.runs[run_id]))
            return done

    def find(
        self, kind: Kind, where: Mapping[str, Any] | None = None, **options: Any
    ) -> list[Row]:
        conditions = check_where(kind, where)
        rows = [row for run in self._runs() for row in run.rows(kind).values()]
        return select(rows, conditions, **options)

    def get_history(self, targets: Collection[str]) -> dict[str, list[StateChange]]:
        found: dict[str, list[StateChange]] = {}
        changes = [one for run in self._runs() for one in run.history.values()]
        for change in sorted(changes, key=lambda one: (one.timestamp, one.id)):
            if change.target in targets:
                found.setdefault(change.target, []).append(change)
        return found

    def count_states(self, run_id: str | None = None) -> int:
        runs = self._runs() if run_id is None else [self.read(run_id) or Run()]
        return sum(len(run.history) for run in runs)

    def remove(self, run_ids: Sequence[str]) -> None:
        with self._locked():
            for run_id in run_ids:
                self.file_of(run_id).unlink(missing_ok=True)

    def get_position(self, source: str) -> datetime | None:
        return (self._read(self.root / "positions.json", POSITIONS) or {}).get(source)

    def set_position(self, source: str, position: datetime) -> None:
        check_time("position", position)
        file = self.root / "positions.json"
        with self._locked():
            known = self._read(file, POSITIONS) or {}
            known[source] = max(known.get(source, position), position)
            self._write(file, POSITIONS.dump_json(known))

    # Files --------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with (self.root / "lock").open("a") as file:
                # It is given back when the file is closed, also if the process dies.
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise StorageError(f"{self.root}: {error}", str(self.root)) from error

    def _runs(self) -> list[Run]:
        found = [self._read(file, RUN) for file in self.root.glob("run-*.json")]
        return [run for run in found if run is not None]

    def _read(self, file: Path, content: TypeAdapter[T]) -> T | None:
        try:
            return content.validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise StorageError(f"{file}: {error}", str(self.root)) from error

    def _write(self, file: Path, data: bytes) -> None:
        """Write a file anew: readers see the old one, or all of the new one."""
        new = file.with_suffix(".new")
        with new.open("wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        new.replace(file)
