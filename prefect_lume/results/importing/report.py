"""What an import did, and what it could not take over."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class ImportProblem:
    """One thing that kept a document from being imported.

    Attributes:
        collection: The source's collection.
        id: The document's ``_id`` as text.
        path: Where in the document it is, for example ``outputs.beam``; ``""`` means
            the whole document.
        reason: What is wrong.
    """

    collection: str
    id: str
    path: str
    reason: str

    def __str__(self) -> str:
        place = f" {self.path}" if self.path else ""
        return f"{self.collection} {self.id}{place}: {self.reason}"


@dataclass
class CollectionCounts:
    """How many documents of one collection ended how.

    ``read`` is the sum of the others.

    Attributes:
        read: Documents that were read.
        stored: Results that were stored; in a dry run, those that would be.
        present: Results that were there already.
        failed: Documents that were not imported. Each has its problems.
    """

    read: int = 0
    stored: int = 0
    present: int = 0
    failed: int = 0


@dataclass
class ImportReport:
    """What an import did.

    Attributes:
        source: The database that was read, without any secret.
        dry_run: Whether nothing was to be written.
        collections: Collection → its counts.
        problems: Everything that kept documents from being imported.
    """

    source: str
    dry_run: bool = False
    collections: dict[str, CollectionCounts] = field(default_factory=dict)
    problems: list[ImportProblem] = field(default_factory=list)

    @property
    def total(self) -> CollectionCounts:
        """The counts of all collections together."""
        found = CollectionCounts()
        for counts in self.collections.values():
            found.read += counts.read
            found.stored += counts.stored
            found.present += counts.present
            found.failed += counts.failed
        return found

    @property
    def complete(self) -> bool:
        """Whether every document that was read is in the results database."""
        return not self.problems and not self.total.failed

    def failed(self, collection: str, key: str, *problems: tuple[str, str]) -> None:
        """Note one document that is not imported.

        Args:
            collection: The source's collection.
            key: The document's ``_id`` as text.
            *problems: Pairs of path and reason.
        """
        self.collections[collection].failed += 1
        self.problems += [ImportProblem(collection, key, *one) for one in problems]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {**asdict(self), "total": asdict(self.total), "complete": self.complete}
