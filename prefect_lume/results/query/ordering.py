"""What is asked for beside a query: the order, and the fields that come back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from prefect_lume.errors import QueryError, clip
from prefect_lume.results.query.language import check_path
from prefect_lume.results.query.operands import escape_path
from prefect_lume.results.query.paths import outermost

Sort = str | Sequence[str | tuple[str, int]] | Mapping[str, int] | None


#: More results than any database holds.
_MOST: Final = (1 << 63) - 1


def check_page(skip: int, limit: int | None) -> None:
    """Refuse numbers of results that cannot be left out or asked for.

    Args:
        skip: How many results to leave out.
        limit: The most to return; None means all.

    Raises:
        QueryError: One is negative, past 64 bits, or no whole number.
    """
    given: tuple[tuple[str, object], ...] = (("skip", skip), ("limit", limit))
    for name, value in given:
        if name == "limit" and value is None:
            continue
        if type(value) is not int or not 0 <= value <= _MOST:
            raise QueryError(
                f"{name} is a whole number from 0, not {clip(repr(value), 40)}."
            )


def prepare_sort(sort: Sort, *, stored: bool = False) -> list[tuple[str, int]]:
    """Check a sort order and return it as pairs, completed so that it is total.

    Args:
        sort: Field names, each alone, with a leading ``-`` for descending order, or
            as ``(name, 1)`` or ``(name, -1)``. None sorts by time.
        stored: Whether field names are in stored form already.

    Returns:
        Pairs of stored path and direction. ``date_modified`` (when no order is given)
        and ``_id`` come last, so that pages never overlap and all stores agree.

    Raises:
        QueryError: A name or direction is not allowed.

    Example:
        >>> prepare_sort(["-outputs.emittance"])
        [('outputs.emittance', -1), ('_id', 1)]
    """
    if sort is None:
        sort = ["date_modified"]
    if isinstance(sort, str):
        sort = [sort]
    pairs: dict[str, int] = {}
    for item in sort.items() if isinstance(sort, Mapping) else sort:
        name, direction = (
            ((item[1:], -1) if item.startswith("-") else (item, 1))
            if isinstance(item, str)
            else item
        )
        if direction not in {1, -1}:
            raise QueryError(f"A sort direction is 1 or -1, not {direction!r}.")
        path = check_path(name)
        pairs.setdefault(path if stored else escape_path(path), int(direction))
    pairs.setdefault("_id", 1)
    return list(pairs.items())


def prepare_projection(
    paths: Iterable[str] | None, *, stored: bool = False
) -> list[str] | None:
    """Check the paths of a projection and return them in stored form, or None.

    Raises:
        QueryError: A path is not allowed.

    Example:
        >>> prepare_projection(["inputs.k", "inputs"])
        ['inputs']
    """
    if paths is None:
        return None
    if isinstance(paths, str):
        raise QueryError("A projection is a list of field names, not text.")
    checked = [check_path(path) for path in paths]
    return outermost(path if stored else escape_path(path) for path in checked)
