"""A result's values one below the other, each with its path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prefect_lume.results.describing import describe
from prefect_lume.results.result import Result

#: Fields that say what a result is and where it comes from, not what it holds.
_HEADER = frozenset(
    {"project_name", "flow_id", "flow_run_id", "deployment_id", "date_modified"}
    | {"unique_on"}
)


def flatten(result: Result) -> Iterator[tuple[str, Any]]:
    """Yield every value of a result with its path, fields of its own type included.

    Dicts are gone into, lists and arrays are not. Large values of a lazily loaded
    result are not read.

    Example:
        >>> found = Result(project_name="p", inputs={"a": {"b": 1}}, outputs={"c": [2]})
        >>> list(flatten(found))
        [('inputs.a.b', 1), ('outputs.c', [2])]
    """
    for name, value in result.field_values().items():
        if name not in _HEADER and value is not None:
            yield from _below(value, name)


def _below(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _below(inner, f"{path}.{key}")
    else:
        yield path, value


def plain(value: Any) -> Any:
    """Return a value for JSON: numbers, text and lists of them as they are.

    What has no JSON form, and what is large, is told in words.

    Example:
        >>> plain([1, 2.5, None]), plain(float("nan")), plain(b"abc")
        ([1, 2.5, None], 'nan', '3 B of bytes')
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return value if value - value == 0 else repr(float(value))
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return plain(value.item())
    if isinstance(value, list | tuple) and len(value) <= 100:
        return [plain(item) for item in value]
    return describe(value, limit=200)


def header(result: Result) -> dict[str, Any]:
    """Return what a result is and where it comes from, for JSON or a table's row."""
    return {
        "unique_hash": result.unique_hash,
        "result_type": result.type_name,
        "project_name": result.project_name,
        "flow_id": result.flow_id,
        "flow_run_id": result.flow_run_id,
        "deployment_id": result.deployment_id,
        "date_modified": result.date_modified.isoformat(timespec="milliseconds"),
    }
