"""An exported folder: what lies where in it, and its manifest.

``results.jsonl`` holds a document per line, sorted by collection and key, each in the
one form that :func:`line_of` writes; ``blobs/ab/abcdef...`` the blobs, each once, by
their SHA-256; ``manifest.json`` what there is. Nothing depends on when, where or out of
which database it was written: equal results make equal files.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefect_lume.errors import IntegrityError, InvalidInputError, NotFoundError, clip
from prefect_lume.results.stores.blobs import PIECE_SIZE
from prefect_lume.results.stores.trees import to_json

FORMAT: Final = "prefect-lume-results"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
RESULTS: Final = "results.jsonl"
BLOBS: Final = "blobs"
#: Bytes of the longest line. A document takes 12 MiB at most when it is stored.
LONGEST_LINE: Final = 64 << 20
_LARGEST_MANIFEST: Final = 1 << 20
_SHA256: Final = r"^[0-9a-f]{64}$"


class Manifest(BaseModel):
    """What an exported folder holds.

    Attributes:
        format: Always the same, so that a folder is recognised.
        version: The version of the layout.
        documents: How many lines ``results.jsonl`` has.
        results_bytes: Its size.
        results_sha256: Its SHA-256. Lines name blobs by their SHA-256: so this one
            stands for all of the content.
        blobs: How many blobs there are.
        blob_bytes: Their size together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["prefect-lume-results"] = FORMAT
    version: Literal[1] = VERSION
    documents: int = Field(ge=0)
    results_bytes: int = Field(ge=0)
    results_sha256: str = Field(pattern=_SHA256)
    blobs: int = Field(ge=0)
    blob_bytes: int = Field(ge=0)

    def text(self) -> str:
        """Return the manifest as the file's text."""
        return json.dumps(self.model_dump(), indent=2, sort_keys=True) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of an exported folder.

    Raises:
        NotFoundError: There is no such folder, or no manifest in it.
        InvalidInputError: The manifest is not one that can be read.
    """
    if not folder.is_dir():
        hint = "It is a file: name the folder." if folder.is_file() else ""
        raise NotFoundError("folder", str(folder), hint=hint)
    path = folder / MANIFEST
    if not path.is_file():
        raise NotFoundError(
            "file",
            str(path),
            hint="The folder was not written by an export, or not to its end.",
        )
    refuse_link(path)
    if path.stat().st_size > _LARGEST_MANIFEST:
        raise InvalidInputError(f"{path} is too large for a manifest.")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InvalidInputError(f"{path} is not JSON: {clip(error)}") from error
    version = found.get("version") if isinstance(found, dict) else None
    if type(version) is int and version > VERSION:
        raise InvalidInputError(
            f"{path} has version {version}; this version of prefect-lume reads up to "
            f"{VERSION}. Install a newer one."
        )
    try:
        return Manifest.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "all of it"
        raise InvalidInputError(
            f"{path} is no manifest of exported results: {place}: {clip(first['msg'])}."
        ) from error


def line_of(collection: str, document: str) -> str:
    """Return a line of ``results.jsonl``, without its end.

    Args:
        collection: The project's name.
        document: The document, as ``to_json`` writes it.

    Example:
        >>> line_of("injector", '{"_id":"0f"}')
        '{"collection":"injector","document":{"_id":"0f"}}'
    """
    return f'{{"collection":{to_json(collection)},"document":{document}}}'


def blob_path(folder: Path, sha256: str) -> Path:
    """Return where a blob lies."""
    return folder / BLOBS / sha256[:2] / sha256


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file with their numbers, from 1, without their ends.

    Raises:
        InvalidInputError: A line is longer than :data:`LONGEST_LINE`, or the last one
            has no end.
    """
    refuse_link(path)
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if not line.endswith(b"\n"):
                if len(line) > LONGEST_LINE:
                    broken(path, number, f"is longer than {LONGEST_LINE >> 20} MiB.")
                broken(path, number, "has no end: the file was cut off.")
            yield number, line[:-1]


def broken(path: Path, number: int, message: str) -> NoReturn:
    """Raise the error that a line cannot be read."""
    raise InvalidInputError(
        f"{path}, line {number} {message} Export the results again."
    )


def parse_line(path: Path, number: int, line: bytes) -> tuple[str, dict[str, Any]]:
    """Return the collection and the document of a line.

    Raises:
        InvalidInputError: The line is not what an export writes.
    """
    try:
        item = json.loads(line)
        same = to_json(item).encode("ascii") == line
    except (ValueError, RecursionError) as error:
        broken(path, number, f"is not JSON: {clip(error)}.")
    if (
        not same
        or not isinstance(item, dict)
        or set(item) != {"collection", "document"}
        or not isinstance(item["collection"], str)
        or not isinstance(item["document"], dict)
    ):
        broken(path, number, "is not a line that an export writes.")
    return item["collection"], item["document"]


def read_blob(folder: Path, sha256: str) -> Iterator[bytes]:
    """Yield the content of a blob's file, not verified."""
    with blob_path(folder, sha256).open("rb") as file:
        while piece := file.read(PIECE_SIZE):
            yield piece


def blob_size(folder: Path, sha256: str) -> int:
    """Return the size of a blob's file.

    Raises:
        IntegrityError: There is no such file, or it is not a plain one.
    """
    path = blob_path(folder, sha256)
    try:
        found = path.lstat()
    except OSError as error:
        raise IntegrityError(f"The blob {path} cannot be read: {error}.") from error
    if not stat.S_ISREG(found.st_mode):
        raise IntegrityError(f"{path} is not a plain file: it is not followed.")
    return found.st_size


def refuse_link(path: Path) -> None:
    """Refuse a symbolic link: it may lead anywhere.

    Raises:
        InvalidInputError: The path is one.
    """
    if path.is_symlink():
        raise InvalidInputError(f"{path} is a symbolic link: it is not followed.")
