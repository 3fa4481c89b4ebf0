"""Rows and changes to what the tables hold, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Column

from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.orm.tables import TABLES, pipeline_state
from prefect_lume.pipelines.rows import ROW_TYPES, Kind, Row

_NAMES: Final = {
    kind: tuple(field.name for field in fields(row_type))
    for kind, row_type in ROW_TYPES.items()
}
_ROW_VALUES: Final[dict[Kind, Callable[[Any], tuple[Any, ...]]]] = {
    kind: attrgetter(*names) for kind, names in _NAMES.items()
}
_CHANGE_NAMES: Final = tuple(field.name for field in fields(StateChange))
_CHANGE_VALUES: Final[Callable[[Any], tuple[Any, ...]]] = attrgetter(*_CHANGE_NAMES)
_KIND: Final = _CHANGE_NAMES.index("kind")

#: The columns of each kind, in the order of a row's fields.
ROW_COLUMNS: Final[dict[Kind, tuple[Column[Any], ...]]] = {
    kind: tuple(TABLES[kind].c[name] for name in names)
    for kind, names in _NAMES.items()
}
#: The columns of a change, in the order of its fields.
CHANGE_COLUMNS: Final[tuple[Column[Any], ...]] = tuple(
    pipeline_state.c[name] for name in _CHANGE_NAMES
)


def row_values(kind: Kind, rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return what the table of a kind is to hold of its rows."""
    names, values = _NAMES[kind], _ROW_VALUES[kind]
    return [dict(zip(names, values(row), strict=True)) for row in rows]


def rows_of(kind: Kind, found: Iterable[Sequence[Any]]) -> list[Row]:
    """Return the rows of a kind from what :data:`ROW_COLUMNS` held."""
    names, row_type = _NAMES[kind], ROW_TYPES[kind]
    return [row_type(**dict(zip(names, one, strict=True))) for one in found]


def change_values(changes: Iterable[StateChange]) -> list[dict[str, Any]]:
    """Return what the table of changes is to hold of them."""
    return [
        dict(zip(_CHANGE_NAMES, _CHANGE_VALUES(change), strict=True))
        for change in changes
    ]


def changes_of(found: Iterable[Sequence[Any]]) -> list[StateChange]:
    """Return changes from what :data:`CHANGE_COLUMNS` held."""
    changes = []
    for one in found:
        values = dict(zip(_CHANGE_NAMES, one, strict=True))
        values["kind"] = Kind(one[_KIND])
        changes.append(StateChange(**values))
    return changes
