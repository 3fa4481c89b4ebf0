"""Rows and changes as MongoDB documents, and back, with nothing lost.

- Times are integers: microseconds since 1970. BSON's dates have milliseconds only.
- What is JSON is kept as its text: BSON knows neither every key nor every number.
- What is nothing is left out.
- Fields that begin with an underscore are not the row's: they make it quick to find.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any, Final

from prefect_lume.errors import InvalidInputError, clip
from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.digest import runtime
from prefect_lume.pipelines.rows import ROW_TYPES, Kind, ResultRow, Row
from prefect_lume.pipelines.status import PipelineTaskStatus

Document = dict[str, Any]

#: The version of the run as of which a document was written.
VERSION: Final = "_version"
#: When a row started or, if it did not, was created.
WHEN: Final = "_when"
#: In which order rows are found: by when they were created, then by their index.
ORDER: Final = "_order"
PLACE: Final = "_place"
#: How long a pipeline result took, in microseconds.
RUNTIME: Final = "_runtime"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TICK: Final = timedelta(microseconds=1)


def to_ticks(moment: datetime, name: str = "time") -> int:
    """Return a time as microseconds since 1970.

    Raises:
        InvalidInputError: It has no zone.

    Example:
        >>> to_ticks(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC))
        1000005
    """
    if moment.tzinfo is None:
        raise InvalidInputError(
            f"{name!r} is {moment.isoformat()}, a time without a zone: give an aware "
            f"one, such as datetime.now(timezone.utc)."
        )
    return (moment - _EPOCH) // _TICK


def from_ticks(ticks: int) -> datetime:
    """Return the time, in UTC, of microseconds since 1970."""
    return _EPOCH + int(ticks) * _TICK


def _names(kind: type[Any], *types: str) -> frozenset[str]:
    # Annotations are text: these modules do not evaluate them.
    return frozenset(f.name for f in dataclasses.fields(kind) if f.type in types)


_TIMES: Final = {kind: _names(r, "datetime | None") for kind, r in ROW_TYPES.items()}
_JSON: Final = {
    kind: _names(row, "Any", "dict[str, Any]") for kind, row in ROW_TYPES.items()
}
_FIELDS: Final = {
    kind: tuple(f.name for f in dataclasses.fields(row) if f.name != "id")
    for kind, row in ROW_TYPES.items()
}
_CHANGE_FIELDS: Final = tuple(
    f.name for f in dataclasses.fields(StateChange) if f.name not in ("id", "timestamp")
)


def row_to_document(kind: Kind, row: Row) -> Document:
    """Return the document of a row.

    Raises:
        InvalidInputError: A time has no zone, or what should be JSON is not.
    """
    document: Document = {"_id": _plain(row.id)}
    times, texts = _TIMES[kind], _JSON[kind]
    for name in _FIELDS[kind]:
        value = getattr(row, name)
        if value is None:
            continue
        if name in times:
            document[name] = to_ticks(value, name)
        elif name in texts:
            document[name] = _json(kind, name, value)
        else:
            document[name] = _plain(value)
    _add_keys(document, row)
    return document


def _add_keys(document: Document, row: Row) -> None:
    created, started = document.get("created"), document.get("started")
    when = created if started is None else started
    if when is not None:
        document[WHEN] = when
    document[ORDER] = created or 0
    document[PLACE] = document.get("index", -1)
    if isinstance(row, ResultRow) and runtime(row) is not None:
        document[RUNTIME] = document["completed"] - document["started"]


def document_to_row(kind: Kind, document: Mapping[str, Any]) -> Row:
    """Return the row of a document."""
    times, texts = _TIMES[kind], _JSON[kind]
    values: dict[str, Any] = {"id": document["_id"]}
    for name in _FIELDS[kind]:
        if name not in document:
            continue
        value = document[name]
        if name in times:
            value = from_ticks(value)
        elif name in texts:
            value = json.loads(value)
        values[name] = value
    values["status"] = PipelineTaskStatus(values["status"])
    return ROW_TYPES[kind](**values)


def change_to_document(change: StateChange) -> Document:
    """Return the document of a change.

    Raises:
        InvalidInputError: Its time has no zone.
    """
    document: Document = {"_id": _plain(change.id)}
    for name in _CHANGE_FIELDS:
        value = getattr(change, name)
        if value is not None:
            document[name] = _plain(value)
    document["timestamp"] = to_ticks(change.timestamp, "timestamp")
    return document


def document_to_change(document: Mapping[str, Any]) -> StateChange:
    """Return the change of a document."""
    values = {name: document[name] for name in _CHANGE_FIELDS if name in document}
    values["kind"] = Kind(values["kind"])
    values["status"] = PipelineTaskStatus(values["status"])
    return StateChange(
        id=document["_id"], timestamp=from_ticks(document["timestamp"]), **values
    )


def condition(name: str, values: Sequence[Any]) -> Document:
    """Return the query for documents whose field has one of these values.

    Raises:
        InvalidInputError: A value is neither text nor a number nor nothing: an
            operator of the query language, for one.
    """
    for value in values:
        if value is not None and not isinstance(value, str | int | float):
            raise InvalidInputError(
                f"{name!r} cannot be {clip(repr(value), 60)}: what it is compared with "
                f"is text, a number or nothing, or a list of these."
            )
    field = "_id" if name == "id" else name
    return {field: {"$in": [_plain(value) for value in values]}}


def _plain(value: Any) -> Any:
    """Return a value as BSON has it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str) and not value.isascii():
        # Half a surrogate pair is no UTF-8, but does come in messages.
        return value.encode(errors="backslashreplace").decode()
    return value


def _json(kind: Kind, name: str, value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(
            f"The {name!r} of a {kind.replace('_', ' ')} is no JSON: {clip(error)}."
        ) from None
