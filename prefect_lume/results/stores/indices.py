"""The indices of document types, in the form that stores create them from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.results.index import EXPIRES_FROM, Clause
from prefect_lume.results.query.language import check_path
from prefect_lume.results.query.match import compile_query
from prefect_lume.results.query.operands import escape_path, time_text
from prefect_lume.results.stores.trees import to_json

if TYPE_CHECKING:
    from prefect_lume.results.documents import DocumentBase

#: What every store indexes in each collection, for all types together.
HEADER_INDICES: Final = (
    ("date_modified", "_id"),
    ("result_type",),
    ("flow_id",),
    ("flow_run_id",),
    ("deployment_id",),
)


@dataclass(frozen=True)
class DeclaredIndex:
    """An index of one document type.

    Attributes:
        result_type: The document type.
        fields: Paths in stored form.
        unique: Whether two documents of one collection may not share a key.
        sparse: Whether documents that lack a field are left out.
        where: What a document must match besides, in stored form.
        expire_after: Seconds after which documents are removed.
    """

    result_type: str
    fields: tuple[str, ...]
    unique: bool
    sparse: bool = False
    where: tuple[Clause, ...] = ()
    expire_after: float | None = None

    @property
    def name(self) -> str:
        """The SHA-256 of the definition: a changed definition is another index."""
        content: list[Any] = [self.result_type, list(self.fields), self.unique]
        if self.options:
            content.append(self.options)
        return sha256_bytes(to_json(content).encode())

    @property
    def options(self) -> dict[str, Any]:
        """What the index has beside its fields and uniqueness, as JSON holds it."""
        found: dict[str, Any] = {}
        if self.sparse:
            found["sparse"] = True
        if self.where:
            found["where"] = [list(clause) for clause in self.where]
        if self.expire_after is not None:
            found["expire_after"] = self.expire_after
        return found

    @property
    def purpose(self) -> tuple[str, tuple[str, ...], bool]:
        """What an index of other options is a replacement in: type and fields."""
        return (self.result_type, self.fields, self.expire_after is not None)

    @cached_property
    def clauses(self) -> tuple[Clause, ...]:
        """All conditions on a document of the type to be in the index."""
        present: tuple[Clause, ...] = ()
        if self.sparse:
            present = tuple((field, "$exists", True) for field in self.fields)
        return (*present, *self.where)

    def query(self) -> dict[str, Any]:
        """Return the query, in stored form, of the documents in the index."""
        return conjunction((("result_type", "$eq", self.result_type), *self.clauses))

    def covers(self, tree: Mapping[str, Any]) -> bool:
        """Tell whether a document of the type is in the index."""
        return not self.clauses or self._test(tree)

    @cached_property
    def _test(self) -> Any:
        return compile_query(conjunction(self.clauses))

    def expired(self, now: datetime) -> dict[str, Any]:
        """Return the query of the documents whose time is over."""
        before = time_text(now - timedelta(seconds=self.expire_after or 0))
        clause: Clause = (EXPIRES_FROM, "$lt", before)
        return {"$and": [self.query(), conjunction((clause,))]}

    def __str__(self) -> str:
        kind = "unique index" if self.unique else "index"
        return f"{kind} on {', '.join(self.fields)} of {self.result_type!r}"


def conjunction(clauses: Iterable[Clause]) -> dict[str, Any]:
    """Return a query that holds where all clauses do.

    Each clause stands for itself: some servers take no two operators of one field in
    the filter of an index.

    Example:
        >>> conjunction([("a", "$eq", 1), ("b", "$gt", 2)])
        {'$and': [{'a': {'$eq': 1}}, {'b': {'$gt': 2}}]}
    """
    parts: list[dict[str, Any]] = [{path: {op: v}} for path, op, v in clauses]
    return parts[0] if len(parts) == 1 else {"$and": parts}


def declared(doc: type[DocumentBase]) -> list[DeclaredIndex]:
    """Return the indices that a document type needs beyond :data:`HEADER_INDICES`.

    A leading ``-`` of a field only matters for sorting, which these indices do not
    serve: it is left out.

    Args:
        doc: The document type.

    Raises:
        QueryError: A declared field is no path.
    """
    found = []
    for index in doc.indices:
        fields = tuple(
            escape_path(check_path(field.removeprefix("-"))) for field in index.fields
        )
        after = index.expire_after
        if index.unique or after is not None or not _is_header(fields):
            found.append(
                DeclaredIndex(
                    doc.result_type,
                    fields,
                    index.unique,
                    index.sparse,
                    index.clauses,
                    None if after is None else after.total_seconds(),
                )
            )
    return list(dict.fromkeys(found))


def unique_condition(doc: type[DocumentBase], field: str) -> dict[str, Any] | None:
    """Return what a query for a unique field must hold besides, to find one document.

    Args:
        doc: The document type.
        field: As users write it.

    Returns:
        A query: ``{}`` if the field is unique in all documents of the type, the
        condition of a partial unique index otherwise, None if the field is not unique.
    """
    path = (escape_path(check_path(field)),)
    found = [index for index in declared(doc) if index.unique and index.fields == path]
    if not found:
        return None
    best = min(found, key=lambda index: len(index.where))
    return conjunction(best.where) if best.where else {}


def _is_header(fields: tuple[str, ...]) -> bool:
    return any(header[: len(fields)] == fields for header in HEADER_INDICES)
