"""Build an sdist whose bytes depend on its content only."""

from __future__ import annotations

import io
import os
import re
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from prefect_lume.errors import PackageError
from prefect_lume.packages.metadata import read_metadata
from prefect_lume.packages.trees import directory_tree, source_files

_BLOCK: Final = 0xFFFF


def build_sdist(
    directory: str | os.PathLike[str], into: str | os.PathLike[str]
) -> Path:
    """Build ``<name>-<version>.tar.gz`` of a source directory.

    Equal directories give equal bytes, on every machine: members are sorted, owners,
    modes and times are fixed (``SOURCE_DATE_EPOCH``, else 0), and nothing is
    compressed, because libraries compress alike content differently. No build
    backend runs and nothing is fetched.

    Args:
        directory: A model package with a pyproject.toml.
        into: The folder for the sdist; it is made if it is not there.

    Returns:
        The path of the sdist.

    Raises:
        PackageError: The directory is not a model package that can be built.
    """
    root, target = Path(directory).absolute(), Path(into).absolute()
    if not root.is_dir():
        raise PackageError(f"There is no directory {str(root)!r} to build an sdist of.")
    metadata = read_metadata(directory_tree(root))
    if not metadata.project:
        raise PackageError(
            f"{root} has no pyproject.toml with a [project] table. Build it with its "
            "own tools (python -m build --sdist)."
        )
    files = source_files(root)
    _check_target(root, target)
    name = re.sub(r"[-_.]+", "_", metadata.name).lower()
    folder = f"{name}-{metadata.version}"
    info = pkg_info(metadata.name, metadata.version, metadata.project)
    target.mkdir(parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(prefix=".sdist-", dir=target)
    try:
        with os.fdopen(handle, "wb") as stream:
            out = _StoredGzip(stream, _epoch())
            with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload] # it writes
                _add(tar, f"{folder}/PKG-INFO", info.encode())
                for file in files:
                    if file != "PKG-INFO":
                        _add(tar, f"{folder}/{file}", (root / file).read_bytes())
            out.finish()
        built = target / f"{folder}.tar.gz"
        Path(made).chmod(0o644)
        Path(made).replace(built)
    except BaseException:
        Path(made).unlink(missing_ok=True)
        raise
    return built


def _check_target(root: Path, target: Path) -> None:
    inside = target.resolve()
    if not inside.is_relative_to(root.resolve()):
        return
    first = inside.relative_to(root.resolve()).parts[:1]
    if first not in {("dist",), ("build",)}:
        raise PackageError(
            f"The sdist would become part of its own source in {str(target)!r}. Build "
            f"it into {str(root / 'dist')!r} or outside of the package."
        )


def pkg_info(name: str, version: str, project: Any) -> str:
    """Return the text of PKG-INFO for a ``[project]`` table.

    Example:
        >>> print(pkg_info("my-model", "1.0", {"requires-python": ">=3.11"}), end="")
        Metadata-Version: 2.1
        Name: my-model
        Version: 1.0
        Requires-Python: >=3.11
    """
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += _header("Summary", project.get("description"))
    lines += _header("Requires-Python", project.get("requires-python"))
    for requirement in project.get("dependencies", ()):
        lines += _header("Requires-Dist", requirement)
    return "\n".join(lines) + "\n"


def _header(name: str, value: object) -> Iterator[str]:
    if isinstance(value, str) and value.strip():
        yield f"{name}: {' '.join(value.split())}"


def _epoch() -> int:
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not text.isdigit() or int(text) >> 32:
        raise PackageError(
            f"SOURCE_DATE_EPOCH must be a number of seconds since 1970, not {text!r}."
        )
    return int(text)


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    info.mtime = _epoch()
    tar.addfile(info, io.BytesIO(content))


class _StoredGzip:
    """A gzip stream of stored blocks: every bit of it is laid down by RFC 1951/1952."""

    def __init__(self, stream: Any, mtime: int) -> None:
        self._stream = stream
        self._left = bytearray()
        self._crc = 0
        self._size = 0
        stream.write(b"\x1f\x8b\x08\x00" + struct.pack("<L", mtime) + b"\x00\xff")

    def write(self, data: bytes) -> int:
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._left += data
        while len(self._left) > _BLOCK:
            self._block(self._left[:_BLOCK], last=False)
            del self._left[:_BLOCK]
        return len(data)

    def finish(self) -> None:
        self._block(self._left, last=True)
        self._stream.write(struct.pack("<LL", self._crc, self._size & 0xFFFFFFFF))

    def _block(self, data: bytes | bytearray, *, last: bool) -> None:
        head = struct.pack("<BHH", last, len(data), len(data) ^ _BLOCK)
        self._stream.write(head + data)
