"""From what a user writes in a query to what is stored: field names and values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from prefect_lume.errors import EncodingError, QueryError, clip

#: A numpy scalar is stored as ``{"__lume__": "numpy-scalar", "value": ...}``: a number
#: in a query matches it as it matches a plain number.
SCALAR: Final = "numpy-scalar"
SCALAR_MARK: Final = "__lume__"
SCALAR_VALUE: Final = "value"
#: Names by which users know fields that are stored under another one.
_ALIASES: Final = {"unique_hash": "_id"}
#: Stored as text in UTC, not in an envelope, so that every store can sort by it.
_TIMES: Final = frozenset({"date_modified"})
_ESCAPED = re.compile(r"%(?!2E|25|24|00|5F)")


def escape_path(path: str) -> str:
    """Return a dotted path as the documents' keys are stored.

    ``%`` is escaped, unless it starts an escape already: write ``%2E`` for a dot
    inside a name, ``%24`` for a leading ``$``, and a lone ``%`` for the empty name.

    Example:
        >>> escape_path("inputs.duty 50% max"), escape_path("outputs.a%2Eb")
        ('inputs.duty 50%25 max', 'outputs.a%2Eb')
    """
    first, dot, rest = path.partition(".")
    first = _ALIASES.get(first, first)
    if not dot:
        return first
    return ".".join([first, *(_escape_segment(part) for part in rest.split("."))])


def _escape_segment(segment: str) -> str:
    if segment == "%":
        return segment
    return _ESCAPED.sub("%25", segment)


def time_text(moment: datetime) -> str:
    """Return an instant as ``date_modified`` stores it; naive means UTC.

    Example:
        >>> time_text(datetime(2026, 1, 2, tzinfo=UTC))
        '2026-01-02T00:00:00.000000Z'
    """
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return aware.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def stored_forms(
    path: str, value: Any, where: str, *, ranged: bool
) -> list[tuple[str, Any]]:
    """Return where and in which forms a value of a query may be stored.

    Args:
        path: The field, in stored form.
        value: What the user compares with.
        where: The place in the query, for messages.
        ranged: Whether it is compared by order.

    Returns:
        Pairs of path and plain value. A document matches by one of them.

    Raises:
        QueryError: The value cannot be stored, so that nothing can be equal to it,
            or is too large to compare with.
    """
    if isinstance(value, datetime) and path in _TIMES:
        return [(path, time_text(value))]
    # Infinity stays as it is in a range: every stored number lies below it.
    bare = ranged and isinstance(value, float) and not math.isnan(value)
    tree = float(value) if bare else _encode(value, where)
    if isinstance(tree, Mapping):
        if isinstance(tree.get("utc"), str):
            return [(f"{path}.utc", tree["utc"])]
        if tree.get(SCALAR_MARK) == SCALAR and SCALAR_VALUE in tree:
            tree = tree[SCALAR_VALUE]
    forms = [(path, sort_keys(tree))]
    number = isinstance(tree, int | float)
    if number and "." in path and not path.endswith(f".{SCALAR_VALUE}"):
        forms.append((f"{path}.{SCALAR_VALUE}", tree))
    return forms


def sort_keys(tree: Any) -> Any:
    """Return a copy of a tree with all keys sorted.

    A MongoDB server compares objects in the order of their keys: stored and compared
    sorted, that order does not matter any more.

    Example:
        >>> list(sort_keys({"b": 1, "a": 2}))
        ['a', 'b']
    """
    if isinstance(tree, Mapping):
        return {name: sort_keys(value) for name, value in sorted(tree.items())}
    if isinstance(tree, list):
        return [sort_keys(item) for item in tree]
    return tree


def _encode(value: Any, where: str) -> Any:
    from prefect_lume.results import codecs

    try:
        encoded = codecs.encode(value, path=where)
    except EncodingError as error:
        raise QueryError(f"A query cannot compare with this: {clip(error)}") from error
    if encoded.blobs:
        raise QueryError(f"{where}: the value is too large to compare with.")
    return encoded.tree
