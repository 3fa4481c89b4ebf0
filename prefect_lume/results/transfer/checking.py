"""Check an exported folder from end to end, before anything of it is stored."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Final

from prefect_lume.errors import (
    IntegrityError,
    InvalidInputError,
    LumeError,
    name_list,
)
from prefect_lume.results.stored import verify_document
from prefect_lume.results.stores.blobs import verified
from prefect_lume.results.stores.checks import check_document
from prefect_lume.results.stores.trees import blob_infos
from prefect_lume.results.transfer import archive
from prefect_lume.results.transfer.reports import Tally

_SHARD: Final = re.compile(r"[0-9a-f]{2}")
_NAME: Final = re.compile(r"[0-9a-f]{64}")
#: A document is stored with at most 60 levels; databases take 100.
_DEEPEST: Final = 100
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def check_archive(folder: Path, manifest: archive.Manifest, tally: Tally) -> None:
    """Check every file of an exported folder, in bounded memory.

    Args:
        folder: The folder.
        manifest: What was read from it.
        tally: Is told of the bytes that were checked.

    Raises:
        IntegrityError: Something is not what its hash or the manifest says.
        InvalidInputError: A line is not what an export writes, or there is something
            in the folder that does not belong to it. The message names the file, and
            the line.
    """
    _check_names(folder)
    _check_results(folder / archive.RESULTS, manifest)
    _check_blobs(folder, manifest, tally)
    _check_lines(folder, manifest)


def _check_names(folder: Path) -> None:
    known = {archive.MANIFEST, archive.RESULTS, archive.BLOBS}
    _refuse_foreign(folder, {path.name for path in folder.iterdir()} - known)
    for name in known:
        archive.refuse_link(folder / name)
    if not (folder / archive.RESULTS).is_file():
        raise IntegrityError(f"The file {folder / archive.RESULTS} is missing.")
    if not (folder / archive.BLOBS).is_dir():
        raise IntegrityError(f"The folder {folder / archive.BLOBS} is missing.")


def _refuse_foreign(folder: Path, names: set[str]) -> None:
    if names:
        raise InvalidInputError(
            f"{folder} holds what is not part of an export: {name_list(names)}. Move "
            f"it away."
        )


def _check_results(path: Path, manifest: archive.Manifest) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    if size != manifest.results_bytes:
        raise IntegrityError(
            f"{path} has {size} bytes and not {manifest.results_bytes}: it was cut off "
            f"or changed. Copy it again."
        )
    if digest != manifest.results_sha256:
        raise IntegrityError(
            f"{path} is not what was exported: its SHA-256 is not the one in "
            f"{archive.MANIFEST}. Copy it again."
        )


def _check_blobs(folder: Path, manifest: archive.Manifest, tally: Tally) -> None:
    count = total = 0
    blobs = folder / archive.BLOBS
    for shard in sorted(blobs.iterdir()):
        archive.refuse_link(shard)
        if not _SHARD.fullmatch(shard.name) or not shard.is_dir():
            _refuse_foreign(blobs, {shard.name})
        for path in sorted(shard.iterdir()):
            sha256 = path.name
            if not _NAME.fullmatch(sha256) or sha256[:2] != shard.name:
                _refuse_foreign(shard, {sha256})
            size = archive.blob_size(folder, sha256)
            try:
                pieces = archive.read_blob(folder, sha256)
                for piece in verified(sha256, size, pieces):
                    tally.moved(len(piece))
            except IntegrityError as error:
                raise IntegrityError(
                    f"The blob {path} is damaged: its content has another hash than "
                    f"its name. Copy it again."
                ) from error
            count += 1
            total += size
    if (count, total) != (manifest.blobs, manifest.blob_bytes):
        raise IntegrityError(
            f"{blobs} holds {count} blobs of {total} bytes together and not "
            f"{manifest.blobs} of {manifest.blob_bytes}. Copy it again."
        )


def _check_lines(folder: Path, manifest: archive.Manifest) -> None:
    path = folder / archive.RESULTS
    last = ("", "")
    number = 0
    for number, line in archive.read_lines(path):
        collection, tree = archive.parse_line(path, number, line)
        try:
            check_document(collection, tree)
            _check_tree(tree)
            verify_document(tree)
            _check_held(folder, tree)
        except LumeError as error:
            raise type_of(error)(f"{path}, line {number}: {error}") from error
        place = (collection, tree["_id"])
        if place <= last:
            what = "holds the same document as the line before"
            if place < last:
                what = "is not in the order of projects and keys"
            archive.broken(path, number, f"{what}.")
        last = place
    if number != manifest.documents:
        raise IntegrityError(
            f"{path} has {number} lines and not {manifest.documents}. Copy it again."
        )


def type_of(error: LumeError) -> type[IntegrityError] | type[InvalidInputError]:
    """Return which of two errors says what is wrong with a line."""
    damaged = isinstance(error, IntegrityError)
    return IntegrityError if damaged else InvalidInputError


def _check_held(folder: Path, tree: dict[str, Any]) -> None:
    def read(sha256: str) -> bytes:
        return archive.blob_path(folder, sha256).read_bytes()

    try:
        for info in blob_infos(tree, read):
            size = archive.blob_size(folder, info.sha256)
            if size != info.size:
                raise IntegrityError(
                    f"the blob {info.sha256} has {size} bytes and not {info.size}."
                )
    except (ValueError, RecursionError) as error:
        raise InvalidInputError("a blob that is to be JSON is not.") from error


def _check_tree(tree: dict[str, Any]) -> None:
    """Refuse what no results database is ever given."""
    pending: list[tuple[Any, int]] = [(tree, 0)]
    while pending:
        item, depth = pending.pop()
        if depth > _DEEPEST:
            raise InvalidInputError(f"it is nested deeper than {_DEEPEST} levels.")
        if isinstance(item, dict):
            for key in item:
                if "\0" in key or key.startswith("$") or _SURROGATE.search(key):
                    raise InvalidInputError(f"the key {key!r} is not allowed.")
            pending.extend((value, depth + 1) for value in item.values())
        elif isinstance(item, list):
            pending.extend((value, depth + 1) for value in item)
        elif isinstance(item, str):
            if _SURROGATE.search(item):
                raise InvalidInputError("it holds half a surrogate pair.")
        elif type(item) is int and not -(2**63) <= item < 2**63:
            raise InvalidInputError(f"the number {item} takes more than 64 bits.")
