"""Find the run that a person names by its id, or the beginning of it."""

from __future__ import annotations

import difflib
from typing import Any, Final, cast

from prefect_lume.errors import AmbiguousError, InvalidInputError, NotFoundError, clip
from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.rows import ExecutionRow, Kind
from prefect_lume.results.describing import one_line

#: Recent runs among which the nearest is looked for, and those that are named.
_RECENT: Final = 200
_NAMED: Final = 3
#: Ids of which messages list the beginning are longer than this.
_ID: Final = 36

#: What an empty storage is answered with.
NO_RUNS: Final = (
    "No runs recorded yet. Put @recorded on a flow, or keep `prefect-lume runs record` "
    "running beside the Prefect server."
)


def find_run(storage: PipelineStorage, text: str) -> str:
    """Return the id of the run that a text names.

    Args:
        storage: The storage.
        text: The run's id, an unambiguous beginning of it, or the id of the flow run
            that worked on one of its objects.

    Raises:
        InvalidInputError: The text is empty.
        NotFoundError: There is no such run; the message names others.
        AmbiguousError: Several begin so.
    """
    wanted = text.strip()
    if not wanted:
        raise InvalidInputError(
            "Give the id of a run, or the beginning of it: `prefect-lume runs list` "
            "shows them."
        )
    # An id may be any text, but Prefect's are in small letters.
    for name in dict.fromkeys([wanted, wanted.lower()]):
        if storage.find(Kind.EXECUTION, {"id": name}, limit=1):
            return name
    found = storage.find_run_ids(wanted) or storage.find_run_ids(wanted.lower())
    if len(found) == 1:
        return found[0]
    if found:
        raise AmbiguousError(
            f"Several runs have ids that begin with {clip(repr(text), 60)}, for "
            f"example {found[0]} and {found[1]}: give more of it."
        )
    results = storage.find(Kind.RESULT, {"flow_run_id": wanted}, limit=1)
    if results:
        return results[0].run_id
    raise NotFoundError("run", text, hint=_others(storage, wanted))


def _others(storage: PipelineStorage, wanted: str) -> str:
    found: list[Any] = storage.find(Kind.EXECUTION, limit=_RECENT, newest_first=True)
    rows = cast("list[ExecutionRow]", found)
    if not rows:
        return NO_RUNS
    by_name = {row.run_name: row for row in reversed(rows) if row.run_name}
    if wanted in by_name:
        return f"It is the name of a run; its id is {by_name[wanted].id}."
    by_beginning = {row.id[: max(4, len(wanted))]: row for row in reversed(rows)}
    near = [
        known[name]
        for known in (by_name, by_beginning)
        for name in difflib.get_close_matches(wanted, known, n=1)
    ]
    hint = f"Did you mean {_named(near[0])}? " if near else ""
    latest = ", ".join(_named(row) for row in rows[:_NAMED])
    return f"{hint}The latest: {latest}. `prefect-lume runs list` shows more."


def _named(row: ExecutionRow) -> str:
    about = " ".join(clip(part, 40) for part in (row.pipeline_id, row.run_name) if part)
    return one_line(f"{clip(row.id, _ID)} ({about})" if about else clip(row.id, _ID))
