"""Check that what a store found is what it was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prefect_lume.errors import IntegrityError, clip
from prefect_lume.results import query as language
from prefect_lume.results.stores.base import HEADER


def as_asked(
    found: Iterator[dict[str, Any]], query: Mapping[str, Any], where: str
) -> Iterator[dict[str, Any]]:
    """Yield documents, whose headers must be what the query asks for.

    A store may find them by columns of its own. When these were changed in the
    database, they lead to other documents, which are whole as such.

    Args:
        found: The documents, with their headers.
        query: In stored form. Only its conditions on the header, and on the key, that
            must all hold are looked at.
        where: The database without any secret, for the message.

    Raises:
        IntegrityError: A document is not what was asked for.
    """
    asked = list(_on_header(query))
    matches = language.compile_query({"$and": asked} if asked else {})
    for tree in found:
        if not matches(tree):
            raise IntegrityError(
                f"{where}: the database was asked for {clip(repr(asked), 160)} and "
                f"returned the result {tree.get('_id')}, which is not that: it was "
                f"changed. Restore it from a backup.",
                where,
            )
        yield tree


def _on_header(query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, operand in query.items():
        if name == "$and":
            for clause in operand:
                yield from _on_header(clause)
        elif name == "_id" or name in HEADER:
            yield {name: operand}
