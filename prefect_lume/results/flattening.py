"""A result's values one below the other, each with its path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from prefect_lume.results.codecs.keys import escape_key, unescape_key
from prefect_lume.results.describing import MISSING, describe
from prefect_lume.results.result import Result

#: Fields that say what a result is and where it comes from, not what it holds.
_HEADER = frozenset(
    {"project_name", "flow_id", "flow_run_id", "deployment_id", "date_modified"}
    | {"unique_on"}
)


def flatten(result: Result) -> Iterator[tuple[str, Any]]:
    """Yield every value of a result with its path, fields of its own type included.

    Dicts are gone into, lists and arrays are not. Large values of a lazily loaded
    result are not read. The paths are those of the query language, in which a dot of
    a name is written ``%2E``.

    Example:
        >>> found = Result(project_name="p", inputs={"a": {"b": 1}}, outputs={"c": [2]})
        >>> list(flatten(found))
        [('inputs.a.b', 1), ('outputs.c', [2])]
    """
    for name, value in result.field_values().items():
        if name in _HEADER or value is None:
            continue
        if isinstance(value, Mapping) and not value:
            # A result without inputs: nothing to tell of them.
            continue
        yield from _below(value, name)


def _below(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _below(inner, below(path, key))
    else:
        yield path, value


def below(path: str, key: Any) -> str:
    """Return the path of a dict's item, given the dict's own.

    Example:
        >>> below("inputs", "beam"), below("inputs", "quad.k")
        ('inputs.beam', 'inputs.quad%2Ek')
    """
    return f"{path}.{escape_key(str(key))}"


def value_at(result: Result, path: str) -> Any:
    """Return the value at a path of the query language, or ``MISSING``.

    Example:
        >>> found = Result(project_name="p", inputs={"a": {"b": [1, 2]}})
        >>> value_at(found, "inputs.a.b.1"), value_at(found, "inputs.c")
        (2, (missing))
    """
    value: Any = result.field_values()
    for part in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(unescape_key(part), MISSING)
        elif isinstance(value, list | tuple) and part.isdecimal():
            value = value[int(part)] if int(part) < len(value) else MISSING
        else:
            return MISSING
    return value


def plain(value: Any) -> Any:
    """Return a value for JSON: numbers, text and lists of them as they are.

    What has no JSON form, and what is large, is told in words.

    Example:
        >>> plain([1, 2.5, None]), plain(float("nan")), plain(b"abc")
        ([1, 2.5, None], 'nan', 'bytes, 3 B')
        >>> plain(date(2026, 1, 31)), plain(Decimal("1.10"))
        ('2026-01-31', '1.10')
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return value if value - value == 0 else repr(float(value))
    if hasattr(value, "item") and getattr(value, "shape", None) == ():
        return plain(value.item())
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal | PurePath):
        return str(value)
    if isinstance(value, Mapping) and not value:
        return {}
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
