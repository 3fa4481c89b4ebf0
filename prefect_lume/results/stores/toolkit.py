"""What a results database of your own is made with, in one place.

Everything here is public: the names of the interface, and answers for a store that
cannot query. Such a store (files, a key-value database) implements ``find`` with
:func:`scan` and keeps its unique indices with :func:`check_unique`.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from itertools import product
from operator import itemgetter
from pathlib import Path
from typing import Any

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.errors import (
    ConflictError,
    NotFoundError,
    StorageError,
    clip,
)
from prefect_lume.results import query as language
from prefect_lume.results.codecs import Encoded
from prefect_lume.results.result import DocumentBase
from prefect_lume.results.stores.base import (
    DBService,
    DBServiceConfig,
    Query,
    SortPairs,
    Tree,
)
from prefect_lume.results.stores.blobs import PIECE_SIZE, BlobInfo, Data, verified
from prefect_lume.results.stores.checks import check_collection, check_document
from prefect_lume.results.stores.indices import DeclaredIndex, declared
from prefect_lume.results.stores.trees import blobs_of, to_json

__all__ = [
    "PIECE_SIZE",
    "BlobInfo",
    "DBService",
    "DBServiceConfig",
    "Data",
    "DeclaredIndex",
    "DocumentBase",
    "Encoded",
    "Query",
    "SortPairs",
    "Tree",
    "blobs_of",
    "check_collection",
    "check_document",
    "check_unique",
    "declared",
    "renew",
    "scan",
    "sha256_bytes",
    "to_json",
    "verified",
    "write_file",
]


def scan(
    documents: Callable[[], Iterable[Tree]],
    get: Callable[[str], Tree],
    query: Query = None,
    sort: SortPairs = None,
    skip: int = 0,
    limit: int | None = None,
    projection: Sequence[str] | None = None,
) -> Iterator[Tree]:
    """Yield the documents that match a query, as :meth:`DBService.find` must.

    All documents are listed once; what they sort by is kept of those that match. Then
    those of the page are read again, one by one.

    Args:
        documents: Lists the documents of the collection.
        get: Returns the document of a key. One that was removed meanwhile is left out.
        query: As in ``find``; so are the others.
        sort: Pairs of path and 1 or -1.
        skip: How many documents to leave out at the start.
        limit: The most documents to yield.
        projection: Paths to keep beside ``_id``.

    Raises:
        QueryError: The query is outside the language.

    Example:
        >>> trees = {name: {"_id": name, "n": n} for n, name in enumerate("abc")}
        >>> query, sort = {"n": {"$gt": 0}}, [("n", -1)]
        >>> [tree["_id"] for tree in scan(trees.values, trees.get, query, sort)]
        ['c', 'b']
    """
    language.check_page(skip, limit)
    test = language.compile_query(language.validate(query))
    pairs = language.prepare_sort(None if sort is None else list(sort), stored=True)
    paths = language.prepare_projection(projection, stored=True)
    if limit == 0:
        return iter(())
    end = None if limit is None else skip + limit
    return _stream(documents, get, test, pairs, slice(skip, end), paths)


def _stream(
    documents: Callable[[], Iterable[Tree]],
    get: Callable[[str], Tree],
    test: Callable[[Tree], bool],
    pairs: Sequence[tuple[str, int]],
    page: slice,
    paths: Sequence[str] | None,
) -> Iterator[Tree]:
    found = [
        [*(language.sort_key(tree, *pair) for pair in pairs), tree["_id"]]
        for tree in documents()
        if test(tree)
    ]
    # The last order first: sorting keeps the order of what is equal.
    for place, (_, direction) in reversed(list(enumerate(pairs))):
        found.sort(key=itemgetter(place), reverse=direction < 0)
    for keys in found[page]:
        try:
            tree = get(keys[-1])
        except NotFoundError:
            continue
        yield tree if paths is None else language.project(tree, paths)


def check_unique(index: DeclaredIndex, trees: Iterable[Tree]) -> None:
    """Check that no two documents of one collection share a key in a unique index.

    Args:
        index: The index.
        trees: The documents; those that the index does not cover may be among them.

    Raises:
        ConflictError: Two share a key.

    Example:
        >>> index = DeclaredIndex("Shot", ("n",), unique=True)
        >>> shots = [{"_id": key, "result_type": "Shot", "n": 1} for key in "ab"]
        >>> check_unique(index, shots)
        Traceback (most recent call last):
        ...
        prefect_lume.errors.ConflictError: The results a… and b… are in each other's \
way in the unique index on n of 'Shot': they have the same values.
    """
    owners: dict[tuple[Any, ...], str] = {}
    for tree in filter(language.compile_query(index.query()), trees):
        columns = [_keys(tree, field) for field in index.fields]
        for key in product(*columns):
            other = owners.setdefault(key, tree["_id"])
            if other != tree["_id"]:
                raise ConflictError(
                    f"The results {other[:12]}… and {tree['_id'][:12]}… are in each "
                    f"other's way in the {index}: they have the same values."
                )


def _keys(tree: Tree, field: str) -> set[tuple[Any, ...]]:
    """Return what a document is found by in a field: a list by its elements, too."""
    found = language.resolve(tree, field.split("."), elements=True)
    keys = {language.order_key(value) for value in found}
    return keys or {language.order_key(None)}


def write_file(path: str | os.PathLike[str], pieces: Iterable[Data]) -> Path:
    """Write a file so that a reader sees the old one or all of the new one.

    Its folder is made if need be. When this returns, the content is on the disk; when
    it raises, what was there has not changed.

    Args:
        path: The file.
        pieces: The content. What goes wrong in getting it is raised as it is.

    Returns:
        The file.

    Raises:
        StorageError: The disk is full, or the file may not be written.
    """
    target = Path(path)
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".lume-", dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb", buffering=0) as file:
            for piece in pieces:
                with _writing(target):
                    _write_all(file, piece)
            with _writing(target):
                os.fsync(file.fileno())
                part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def renew(path: str | os.PathLike[str]) -> bool:
    """Make a file as young as if it were written now.

    Returns:
        Whether it is there.
    """
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _write_all(file: FileIO, piece: Data) -> None:
    # Unbuffered, as a buffer would tell of a full disk when it is closed only.
    left = memoryview(piece).cast("B")
    while left:
        left = left[file.write(left) :]


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or clip(error)
        raise StorageError(f"{path} cannot be written: {reason}.", str(path)) from error
