"""Rows and changes to what the tables hold, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Column

from prefect_lume.pipelines.changes import StateChange
from prefect_lume.pipelines.orm.tables import TABLES, pipeline_state
from prefect_lume.pipelines.rows import (
    ROW_FIELDS,
    ROW_TYPES,
    Kind,
    Row,
)

_CHANGE_NAMES: Final = tuple(field.name for field in fields(StateChange))
#: What gets the values of all fields of a change.
CHANGE_VALUES: Final[Callable[[Any], tuple[Any, ...]]] = attrgetter(*_CHANGE_NAMES)
_KIND: Final = _CHANGE_NAMES.index("kind")

#: The columns of each kind, in the order of a row's fields.
ROW_COLUMNS: Final[dict[Kind, tuple[Column[Any], ...]]] = {
    kind: tuple(TABLES[kind].c[name] for name in names)
    for kind, names in ROW_FIELDS.items()
}
#: The columns of a change, in the order of its fields.
CHANGE_COLUMNS: Final[tuple[Column[Any], ...]] = tuple(
    pipeline_state.c[name] for name in _CHANGE_NAMES
)


def rows_of(kind: Kind, found: Iterable[Sequence[Any]]) -> list[Row]:
    """Return the rows of a kind from what :data:`ROW_COLUMNS` held."""
    names, row_type = ROW_FIELDS[kind], ROW_TYPES[kind]
    return [row_type(**dict(zip(names, one, strict=True))) for one in found]


def changes_of(found: Iterable[Sequence[Any]]) -> list[StateChange]:
    """Return changes from what :data:`CHANGE_COLUMNS` held."""
    changes = []
    for one in found:
        values = dict(zip(_CHANGE_NAMES, one, strict=True))
        values["kind"] = Kind(one[_KIND])
        changes.append(StateChange(**values))
    return changes
