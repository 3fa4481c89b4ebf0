"""What an export, import or copy says while it runs, and when it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

#: Called now and then with the documents that are done, all of them, and the bytes of
#: documents and blobs that went through. The total is an estimate: the source may
#: change meanwhile.
Progress = Callable[[int, int, int], None]


@dataclass(frozen=True)
class TransferReport:
    """What an export, import or copy did.

    Attributes:
        documents: Documents that were read.
        stored: Documents that are in the target because of this call. In a dry run:
            that would be.
        present: Documents that the target had already, and kept.
        blobs: Blobs that were written, each counted once. The target had the others,
            or had no need of them.
        blob_bytes: The size of those.
        projects: Project → documents that were read.
    """

    documents: int = 0
    stored: int = 0
    present: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    projects: Mapping[str, int] = field(default_factory=dict)


class Tally:
    """Counts what goes through, and tells a callback."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._bytes = 0
        self.projects: dict[str, int] = {}
        self.stored = 0
        self.present = 0
        self.blobs = 0
        self.blob_bytes = 0

    @property
    def documents(self) -> int:
        """How many documents are done."""
        return sum(self.projects.values())

    def document(self, collection: str, size: int) -> None:
        """Count a document that was read."""
        self.projects[collection] = self.projects.get(collection, 0) + 1
        self._bytes += size

    def blob(self, size: int) -> None:
        """Count a blob that was written."""
        self.blobs += 1
        self.blob_bytes += size

    def moved(self, size: int) -> None:
        """Count bytes of a blob while it is being written, and tell."""
        self._bytes += size
        self.tell()

    def tell(self) -> None:
        """Call the callback."""
        if self._progress is not None:
            done = self.documents
            self._progress(done, max(done, self._total), self._bytes)

    def report(self) -> TransferReport:
        """Return what was counted."""
        return TransferReport(
            documents=self.documents,
            stored=self.stored,
            present=self.present,
            blobs=self.blobs,
            blob_bytes=self.blob_bytes,
            projects=dict(sorted(self.projects.items())),
        )
