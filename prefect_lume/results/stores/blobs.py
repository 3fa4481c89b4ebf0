"""Content-addressed blobs: what every results database does alike with them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, final

from prefect_lume.errors import IntegrityError, NotFoundError
from prefect_lume.results.stores.digests import BesideDigest, Data

__all__ = ["PIECE_SIZE", "BlobInfo", "BlobStore", "Data", "pieces_of", "verified"]

#: Bytes of the pieces in which blobs are written and read.
PIECE_SIZE: Final = 1 << 20


class BlobInfo(NamedTuple):
    """A blob.

    Attributes:
        sha256: The SHA-256 of its content, by which it is found.
        size: The content's size in bytes.
    """

    sha256: str
    size: int


class BlobStore(ABC):
    """The half of a results database that keeps blobs, each by its SHA-256.

    A blob's content is the same whoever writes it, and it is stored once. A reader
    never sees a part of it.
    """

    @abstractmethod
    def write_blob(self, sha256: str, size: int, pieces: Iterable[Data]) -> None:
        """Store a blob piece by piece, unless it is there.

        If it is there, it counts as stored now (see :meth:`blobs_before`), and the
        pieces need not be read. What the pieces raise is raised as it is. The memory
        this takes must not grow with the size. Pass the pieces through
        :func:`verified`: nothing may ever be visible under a hash that is not its own.

        Args:
            sha256: The SHA-256 of the content.
            size: The content's size in bytes.
            pieces: The content, in pieces of at most :data:`PIECE_SIZE` bytes.

        Raises:
            IntegrityError: The content has another hash or size; nothing was stored.
        """

    @abstractmethod
    def read_blob(self, sha256: str) -> Iterator[bytes]:
        """Yield a blob's content piece by piece, not verified.

        Raises:
            NotFoundError: There is no such blob.
        """

    def blobs_before(self, moment: datetime) -> list[BlobInfo]:
        """Return the blobs that were last stored before a moment.

        The default returns none, so that nothing is ever cleaned up.

        Args:
            moment: By the database's own clock; see :meth:`now`.
        """
        del moment
        return []

    def delete_blob(self, sha256: str, before: datetime) -> bool:
        """Remove a blob, unless it was stored again since a moment.

        Returns:
            Whether it was removed; False if there is no such blob.
        """
        del sha256, before
        return False

    def now(self) -> datetime:
        """Return the time by the clock that says when blobs were stored.

        A store whose writers sit on several machines must use the server's clock:
        theirs may differ by more than a clean-up waits.
        """
        return datetime.now(UTC)

    @final
    def put_blob(self, sha256: str, data: Data) -> None:
        """Store a blob that is in memory, unless it is there.

        Args:
            sha256: The SHA-256 of the data.
            data: The content.

        Raises:
            IntegrityError: The data has another hash.
        """
        view = memoryview(data).cast("B")
        self.write_blob(sha256, view.nbytes, pieces_of(view))

    @final
    def put_blob_file(self, path: str | os.PathLike[str]) -> BlobInfo:
        """Store a file's content as a blob, in bounded memory.

        Args:
            path: The file. It is read twice: to find its hash, and to store it.

        Returns:
            The blob.

        Raises:
            NotFoundError: There is no such file.
            IntegrityError: The file changed meanwhile; nothing was stored.
        """
        if not Path(path).is_file():
            raise NotFoundError("file", str(path))
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
            file.seek(0)
            self.write_blob(digest, size, _read(file))
        return BlobInfo(digest, size)

    @final
    def get_blob(self, sha256: str, size: int | None = None) -> bytearray:
        """Return a blob's content, verified against its hash.

        Args:
            sha256: The blob.
            size: Its size in bytes, if it is known: no more is read.

        Raises:
            NotFoundError: There is no such blob.
            IntegrityError: What is stored is not what the hash says.
        """
        content = bytearray()
        with BesideDigest() as digest:
            for piece in self.read_blob(sha256):
                digest.update(piece)
                content += piece
                if size is not None and len(content) > size:
                    break
            if digest.hexdigest() != sha256:
                raise _damaged(sha256, digest.size)
        return content

    @final
    def fetch_blob(self, sha256: str, path: str | os.PathLike[str]) -> Path:
        """Write a blob's content to a file, verified, in bounded memory.

        The file appears when all of it is written and verified: a failure leaves
        what was there before.

        Args:
            sha256: The blob.
            path: The file, which is replaced if it is there. Its folder must exist.

        Returns:
            The file.

        Raises:
            NotFoundError: There is no such blob.
            IntegrityError: What is stored is not what the hash says.
        """
        target = Path(path)
        handle, name = tempfile.mkstemp(prefix=".lume-", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file, BesideDigest() as digest:
                for piece in self.read_blob(sha256):
                    digest.update(piece)
                    file.write(piece)
                if digest.hexdigest() != sha256:
                    raise _damaged(sha256, digest.size)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return target


def verified(sha256: str, size: int, pieces: Iterable[Data]) -> Iterator[Data]:
    """Yield pieces as they come, and check at the end what they were.

    Args:
        sha256: The hash that all of them together must have.
        size: Their size together, in bytes.
        pieces: The content.

    Raises:
        IntegrityError: They have another hash or size. It is raised after the last
            piece: undo what was written by then.
    """
    with BesideDigest() as digest:
        for piece in pieces:
            digest.update(piece)
            yield piece
        right = digest.size == size and digest.hexdigest() == sha256
    if not right:
        raise IntegrityError(f"The data given as blob {sha256[:12]}… has another hash.")


def pieces_of(data: Data) -> Iterator[memoryview]:
    """Yield data in pieces of :data:`PIECE_SIZE`, without copying it."""
    view = memoryview(data).cast("B")
    for start in range(0, view.nbytes, PIECE_SIZE):
        yield view[start : start + PIECE_SIZE]


def _read(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE_SIZE):
        yield piece


def _damaged(sha256: str, size: int) -> IntegrityError:
    return IntegrityError(
        f"The stored blob {sha256[:12]}… is damaged: {size} bytes that do not have its "
        f"hash. Restore it from a backup, or delete the results that hold it and run "
        f"the model again."
    )
