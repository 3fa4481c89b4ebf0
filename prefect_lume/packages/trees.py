"""The files of a package source, wherever they are, and one hash for them."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from prefect_lume._fingerprint import sha256_file, sha256_tree
from prefect_lume.errors import PackageError
from prefect_lume.packages.archives import Kind, Limits, members
from prefect_lume.packages.layout import checked_path

_MOST_TEXT: Final = 4 << 20
_MOST_TEXTS: Final = 64 << 20

#: What is read of an archive while it is inspected.
_READ: Final = (
    "*.py",
    "*.toml",
    "*.yml",
    "*PKG-INFO",
    "*METADATA",
    "*entry_points.txt",
)

#: Folders that no version control tracks, and those only at the root.
_SKIPPED_FOLDERS: Final = (
    *(".git", ".hg", ".svn", ".bzr", "__pycache__", ".venv", "venv", ".tox", ".nox"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".cache", ".eggs"),
    *(".ipynb_checkpoints", ".idea", ".vscode", "node_modules", "*.egg-info"),
)
_SKIPPED_AT_ROOT: Final = ("build", "dist", "site", "htmlcov")
_SKIPPED_FILES: Final = (
    *("*.py[co]", "*.swp", "*~", ".DS_Store", "Thumbs.db", ".coverage", ".coverage.*"),
)


@dataclass(frozen=True)
class Tree:
    """The files of one package source.

    Attributes:
        kind: What the source is.
        where: What to call it in messages.
        names: The paths of its files, below its root.
        read: Returns a file's content.
    """

    kind: Kind
    where: str
    names: frozenset[str]
    read: Callable[[str], bytes]

    def text(self, name: str) -> str | None:
        """Return a file as text, or ``None`` when there is no such file.

        Raises:
            PackageError: It is not UTF-8.
        """
        if name not in self.names:
            return None
        try:
            return self.read(name).decode("utf-8-sig")
        except UnicodeDecodeError as exc:
            raise PackageError(f"{self.where}: {name} is not UTF-8 text.") from exc

    def matching(self, *patterns: str) -> list[str]:
        """Return the paths that match one of the patterns, sorted."""
        return sorted(
            name
            for name in self.names
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
        )


def archive_tree(stream: BinaryIO, kind: Kind, where: str, limits: Limits) -> Tree:
    """Return the files of an archive; what may be read of it is read at once."""
    names: set[str] = set()
    texts: dict[str, bytes] = {}
    left = _MOST_TEXTS
    for member in members(stream, kind, where, limits):
        names.add(member.name)
        wanted = any(fnmatch.fnmatchcase(member.name, pattern) for pattern in _READ)
        if wanted and member.size <= min(left, _MOST_TEXT):
            texts[member.name] = b"".join(member.chunks())
            left -= member.size

    def read(name: str) -> bytes:
        if name not in texts:
            raise _too_large(where, name)
        return texts[name]

    return Tree(kind, where, frozenset(names), read)


def directory_tree(root: Path) -> Tree:
    """Return the files of a directory, and its ``*.egg-info`` for its metadata."""
    metadata = [
        path.relative_to(root).as_posix()
        for pattern in ("*.egg-info", "src/*.egg-info")
        for folder in sorted(root.glob(pattern))
        for path in (folder / "PKG-INFO", folder / "entry_points.txt")
        if path.is_file()
    ]

    def read(name: str) -> bytes:
        path = root / name
        if path.stat().st_size > _MOST_TEXT:
            raise _too_large(str(root), name)
        return path.read_bytes()

    names = frozenset([*source_files(root), *metadata])
    return Tree("directory", str(root), names, read)


def _too_large(where: str, name: str) -> PackageError:
    return PackageError(
        f"{where}: {name} is too large to be read ({_MOST_TEXT >> 20} MB at most, "
        f"{_MOST_TEXTS >> 20} MB for all source files)."
    )


def source_files(root: Path) -> list[str]:
    """Return the files of a directory that belong to its source, sorted.

    Version control, caches, virtual environments and what builds leave behind do not.

    Raises:
        PackageError: A link leads to a folder or out of the directory.
    """
    found: list[str] = []
    inside = root.resolve()
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        at_root = here == root
        folders[:] = [name for name in folders if _kept(here / name, at_root=at_root)]
        for name in [*folders, *files]:
            path = here / name
            if name in files and _matches(name, _SKIPPED_FILES):
                continue
            relative = checked_path(path.relative_to(root).as_posix(), str(root))
            if path.is_symlink() and not (
                path.is_file() and path.resolve().is_relative_to(inside)
            ):
                raise PackageError(
                    f"{root}: {relative} is a link that leads to a folder or out of "
                    "the package. Replace it by what it points to."
                )
            if name in files and path.is_file():
                found.append(relative)
    return sorted(found)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _kept(folder: Path, *, at_root: bool) -> bool:
    skipped = _SKIPPED_FOLDERS + (_SKIPPED_AT_ROOT if at_root else ())
    return not _matches(folder.name, skipped) and not (folder / "pyvenv.cfg").exists()


def sha256_directory(root: Path) -> str:
    """Return one hash for the source files of a directory.

    It depends on their paths and contents only: not on times, modes, order, owners or
    the machine.
    """
    return sha256_tree({name: sha256_file(root / name) for name in source_files(root)})
