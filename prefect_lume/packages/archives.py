"""Read archives that nobody vouches for: bounded, files only, no path out."""

from __future__ import annotations

import gzip
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO, Final, Literal

from prefect_lume.errors import PackageError, clip
from prefect_lume.packages.layout import checked_path

#: What a package source is.
Kind = Literal["directory", "sdist", "wheel"]

_CHUNK: Final = 1 << 16
#: Nothing but a header is ever read in one piece, and no honest one is larger.
_MOST_PIECE: Final = 1 << 24
#: The bits of a zip member's attributes that hold its Unix mode.
_MODE_SHIFT: Final = 16
_ENCRYPTED: Final = 0x1

_BROKEN: Final = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)


@dataclass(frozen=True)
class Limits:
    """How much an archive may hold.

    Attributes:
        members: Most files and folders.
        member_bytes: Most bytes of one file, unpacked.
        total_bytes: Most bytes of all of it, unpacked.
    """

    members: int = 20_000
    member_bytes: int = 1 << 30
    total_bytes: int = 4 << 30


@dataclass(frozen=True)
class Member:
    """One file of an archive; read it before the next one is asked for.

    Attributes:
        name: Its path inside the package, "/" between the steps.
        size: Its size in bytes.
        executable: Whether it may be executed.
        chunks: Returns its content, piece by piece.
    """

    name: str
    size: int
    executable: bool
    chunks: Callable[[], Iterator[bytes]]


def members(
    stream: BinaryIO, kind: Kind, where: str, limits: Limits
) -> Iterator[Member]:
    """Yield the files of an sdist (below its one folder) or of a wheel.

    Args:
        stream: The archive.
        kind: ``"sdist"`` or ``"wheel"``.
        where: What to call it in messages.
        limits: How much it may hold.

    Raises:
        PackageError: It is damaged, too large, or holds a link, a device, a path that
            leads out, or one path twice.
    """
    names = _Names(where, limits)
    if kind == "wheel":
        yield from _zip(stream, names)
    else:
        yield from _tar(stream, names)


class _Names:
    """Checks every member of one archive before it is touched."""

    def __init__(self, where: str, limits: Limits) -> None:
        self.where = where
        self.limits = limits
        self._count = 0
        self._total = 0
        self._files: set[str] = set()
        self._folders: set[str] = set()
        self._top = ""

    def refuse(self, reason: str) -> PackageError:
        return PackageError(f"{self.where} {reason}. Nothing was unpacked.")

    def counted(self) -> None:
        self._count += 1
        if self._count > self.limits.members:
            raise self.refuse(f"holds more than {self.limits.members} members")

    def below_top(self, name: str) -> str:
        """Return a path without the one folder that an sdist's members are in."""
        top, _, rest = checked_path(name, self.where).partition("/")
        if not rest or self._top not in {"", top}:
            raise self.refuse(
                "is not an sdist: its members must be in one folder, "
                f"'<name>-<version>/', and {clip(repr(name), 120)} is not"
            )
        self._top = top
        return rest

    def file(self, name: str, size: int) -> str:
        """Return a file's plain path, or refuse the file."""
        name = checked_path(name, self.where)
        self._total += size
        largest, total = self.limits.member_bytes, self.limits.total_bytes
        if size > largest or self._total > total:
            raise self.refuse(
                f"is too large when unpacked: at most {total} bytes, and {largest} "
                "bytes for one file, are allowed"
            )
        parents = {name[:i] for i, char in enumerate(name) if char == "/"}
        if name in self._files or name in self._folders or parents & self._files:
            raise self.refuse(f"holds {clip(repr(name), 120)} twice")
        self._files.add(name)
        self._folders |= parents
        return name

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Say that the archive is damaged, whatever the library calls it."""
        try:
            yield
        except _BROKEN as exc:
            reason = clip(str(exc) or type(exc).__name__, 120)
            raise PackageError(
                f"{self.where} is damaged or not the archive that its name says: "
                f"{reason}."
            ) from exc


class _Bounded:
    """A decompressed stream that ends with an error where the limit is."""

    def __init__(self, inner: gzip.GzipFile, names: _Names) -> None:
        self._inner = inner
        self._names = names
        # Every member has a header of at most a few blocks beside its content.
        self._most = names.limits.total_bytes + (names.limits.members << 12)

    def _check(self, position: int) -> None:
        if position > self._most:
            raise self._names.refuse(f"unpacks to more than {self._most} bytes")

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MOST_PIECE:
            raise self._names.refuse("holds a header of impossible size")
        data = self._inner.read(size)
        self._check(self._inner.tell())
        return data

    def seek(self, position: int, whence: int = 0) -> int:
        self._check(position)
        return self._inner.seek(position, whence)

    def tell(self) -> int:
        return self._inner.tell()


def _tar(stream: BinaryIO, names: _Names) -> Iterator[Member]:
    with names.translated():
        plain = _Bounded(gzip.GzipFile(fileobj=stream, mode="rb"), names)
        archive = tarfile.TarFile(fileobj=plain, mode="r")  # type: ignore[arg-type] # it reads, seeks and tells
    while True:
        with names.translated():
            info = archive.next()
        if info is None:
            return
        names.counted()
        if info.isdir():
            checked_path(info.name, names.where)
            continue
        if not info.isreg() or info.issparse():
            raise names.refuse(
                f"holds {clip(repr(info.name), 120)}, which is a link or a special "
                "file; only files and folders are allowed"
            )
        name = names.file(names.below_top(info.name), info.size)
        yield Member(
            name, info.size, bool(info.mode & 0o100), _reader(names, archive, info)
        )


def _reader(
    names: _Names, archive: tarfile.TarFile, info: tarfile.TarInfo
) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        with names.translated():
            content = archive.extractfile(info)
        yield from _pieces(names, content, info.size)

    return chunks


def _pieces(names: _Names, content: IO[bytes] | None, size: int) -> Iterator[bytes]:
    left = size
    while left:
        with names.translated():
            piece = content.read(min(left, _CHUNK)) if content else b""
            if not piece:
                raise EOFError("it ends too early")
        left -= len(piece)
        yield piece


def _zip(stream: BinaryIO, names: _Names) -> Iterator[Member]:
    with names.translated():
        archive = zipfile.ZipFile(stream)
    for info in archive.infolist():
        names.counted()
        if info.is_dir():
            checked_path(info.filename, names.where)
            continue
        mode = info.external_attr >> _MODE_SHIFT
        if stat.S_IFMT(mode) not in {0, stat.S_IFREG} or info.flag_bits & _ENCRYPTED:
            raise names.refuse(
                f"holds {clip(repr(info.filename), 120)}, which is a link, a special "
                "or an encrypted file; only plain files and folders are allowed"
            )
        # What zipfile cut at a NUL or turned round is not the name in the archive.
        name = names.file(info.orig_filename, info.file_size)
        yield Member(
            name, info.file_size, bool(mode & 0o100), _zip_reader(names, archive, info)
        )


def _zip_reader(
    names: _Names, archive: zipfile.ZipFile, info: zipfile.ZipInfo
) -> Callable[[], Iterator[bytes]]:
    def chunks() -> Iterator[bytes]:
        with names.translated():
            content = archive.open(info)
        yield from _pieces(names, content, info.file_size)
        with names.translated():
            # The checksum is compared at the end of the file only.
            content.read(1)

    return chunks
