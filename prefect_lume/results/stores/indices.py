"""The indices of document types, in the form that stores create them from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.results.query.language import check_path
from prefect_lume.results.query.operands import escape_path
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
    """

    result_type: str
    fields: tuple[str, ...]
    unique: bool

    @property
    def name(self) -> str:
        """The SHA-256 of the definition: a changed definition is another index."""
        content = [self.result_type, list(self.fields), self.unique]
        return sha256_bytes(to_json(content).encode())


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
        if index.unique or not _is_header(fields):
            found.append(DeclaredIndex(doc.result_type, fields, index.unique))
    return found


def _is_header(fields: tuple[str, ...]) -> bool:
    return any(header[: len(fields)] == fields for header in HEADER_INDICES)
