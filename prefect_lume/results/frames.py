"""Results as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from prefect_lume._optional import require
from prefect_lume.results.codecs import MARK, LoadBlob, decode
from prefect_lume.results.query import escape_path
from prefect_lume.results.query.operands import SCALAR
from prefect_lume.results.query.paths import index

if TYPE_CHECKING:
    import pandas as pd

#: Columns that every table has: what the result is and where it comes from.
PROVENANCE: Final = (
    "unique_hash",
    "result_type",
    "project_name",
    "flow_id",
    "flow_run_id",
    "deployment_id",
    "date_modified",
)
#: Envelopes that stand for one value of a cell.
_CELLS: Final = frozenset({SCALAR, "float", "int", "decimal", "datetime", "date"})

Tree = Mapping[str, Any]


def load_dataframe(
    trees: Iterable[Tree],
    columns: list[str] | None,
    load_blob: LoadBlob,
) -> pd.DataFrame:
    """Return stored documents as a table.

    Args:
        trees: The documents, in the order of the rows.
        columns: Dotted fields, in the order of the columns. None takes every scalar
            of inputs and outputs, however deep.
        load_blob: Loads what has left a document, for ``columns`` only.

    Returns:
        The columns of :data:`PROVENANCE`, then the others by their dotted names,
        those of inputs first. Missing values are missing in pandas' way.
    """
    pandas = require("pandas", "A table of results")
    rows = []
    for tree in trees:
        row = _provenance(tree)
        row.update(
            _scalars(tree)
            if columns is None
            else {name: _cell(tree, name, load_blob) for name in columns}
        )
        rows.append(row)
    found = dict.fromkeys(name for row in rows for name in row)
    others = [name for name in found if name not in PROVENANCE]
    if columns is not None:
        others = [name for name in dict.fromkeys(columns) if name not in PROVENANCE]
    else:
        others.sort(key=lambda name: (not name.startswith("inputs."), name))
    frame: pd.DataFrame = pandas.DataFrame(
        {name: _series(pandas, rows, name) for name in (*PROVENANCE, *others)}
    )
    frame["date_modified"] = pandas.to_datetime(frame["date_modified"], utc=True)
    # A deployment's id stays a whole number where some results have none.
    frame["deployment_id"] = frame["deployment_id"].astype("Int64")
    return frame


def _series(pandas: Any, rows: list[dict[str, Any]], name: str) -> Any:
    values = [row.get(name) for row in rows]
    if any(not isinstance(value, _PLAIN) for value in values):
        # Kept as they are: pandas would take lists and arrays apart.
        series = pandas.Series([None] * len(values), dtype=object)
        for place, value in enumerate(values):
            series.iat[place] = value
        return series if _has_containers(values) else series.infer_objects()
    return pandas.Series(values, dtype=None if values else object)


_PLAIN: Final = (type(None), bool, int, float, str)


def _has_containers(values: list[Any]) -> bool:
    return any(hasattr(v, "__len__") and not isinstance(v, str) for v in values)


def _provenance(tree: Tree) -> dict[str, Any]:
    named = {name: tree.get(name) for name in PROVENANCE}
    return {**named, "unique_hash": tree["_id"]}


def _scalars(tree: Tree) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for root in ("inputs", "outputs"):
        _collect(tree.get(root), root, found)
    return found


def _collect(value: Any, name: str, found: dict[str, Any]) -> None:
    if isinstance(value, Mapping):
        if MARK not in value:
            for key, inner in value.items():
                _collect(inner, f"{name}.{key}", found)
        elif value[MARK] in _CELLS and "blob" not in value:
            found[name] = decode(value, path=name)
    elif not isinstance(value, list):
        found[name] = value


def _cell(tree: Tree, name: str, load_blob: LoadBlob) -> Any:
    value: Any = tree
    for segment in escape_path(name).split("."):
        if (
            isinstance(value, list)
            and segment.isdecimal()
            and int(segment) < len(value)
        ):
            value = value[int(segment)]
        elif isinstance(value, Mapping) and segment in value:
            value = value[segment]
        else:
            return None
    return decode(value, load_blob=load_blob, path=name)


def before_index(path: str) -> str:
    """Return a path up to its first list index: projections know none."""
    segments = path.split(".")
    places = (n for n, part in enumerate(segments) if index(part) is not None)
    return ".".join(segments[: next(places, len(segments))])
