"""Read an exported folder into a results database."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from prefect_lume.errors import StorageError
from prefect_lume.results.service import ResultsService
from prefect_lume.results.stores.base import DBService
from prefect_lume.results.stores.trees import blob_infos
from prefect_lume.results.transfer import archive
from prefect_lume.results.transfer.checking import check_archive
from prefect_lume.results.transfer.reports import Progress, Tally, TransferReport
from prefect_lume.results.transfer.writing import (
    Writer,
    duplicate,
    present,
)
from prefect_lume.results.writer import OnDuplicate, check_on_duplicate

_KEYS_AT_ONCE = 1000


def import_results(
    service: ResultsService,
    folder: str | os.PathLike[str],
    on_duplicate: OnDuplicate = "return",
    progress: Progress | None = None,
) -> TransferReport:
    """Store the results of a folder that :func:`export_results` wrote.

    All of the folder is checked first, every hash included: nothing of a broken one is
    stored. An import that was interrupted can be run again.

    Args:
        service: Where the results go.
        folder: The folder.
        on_duplicate: What to do with a result that is there already: ``"return"``
            keeps it, ``"raise"`` stores nothing at all, ``"replace"`` replaces it.
        progress: Called with documents done, documents in all, and bytes done: those
            of a blob once when it is checked and once when it is written.

    Returns:
        What was read and stored.

    Raises:
        NotFoundError: There is no such folder, or it is no export.
        IntegrityError: Something in it is not what its hash says.
        InvalidInputError: Something in it is not what an export writes; the message
            names the file and the line.
        ConflictError: A result is there already and ``on_duplicate`` is ``"raise"``,
            or some violate a unique index: all others were stored then.
        StorageError: The database failed, or a file cannot be read.
    """
    check_on_duplicate(on_duplicate)
    source, store = Path(folder).absolute(), service.db_service
    try:
        manifest = archive.read_manifest(source)
        tally = Tally(progress, manifest.documents)
        check_archive(source, manifest, tally)
        if on_duplicate == "raise":
            _refuse_present(store, source)
        if manifest.documents:
            read_blob = partial(archive.read_blob, source)
            writer = Writer(store, read_blob, on_duplicate, tally)
            writer.prepare(service.model_docs)
            _write(source, writer)
    except OSError as error:
        raise StorageError(
            f"{error.filename or source} cannot be read: {error.strerror or error}.",
            str(source),
        ) from error
    tally.tell()
    return tally.report()


def _write(source: Path, writer: Writer) -> None:
    def read(sha256: str) -> bytes:
        return archive.blob_path(source, sha256).read_bytes()

    path = source / archive.RESULTS
    last = ""
    for number, line in archive.read_lines(path):
        collection, tree = archive.parse_line(path, number, line)
        if collection != last:
            writer.begin(collection)
            last = collection
        for info in blob_infos(tree, read):
            writer.blob(info)
        writer.document(tree, len(line))
    writer.finish()


def _refuse_present(store: DBService, source: Path) -> None:
    path = source / archive.RESULTS
    keys: dict[str, list[str]] = {}
    for number, line in archive.read_lines(path):
        collection, tree = archive.parse_line(path, number, line)
        keys.setdefault(collection, []).append(tree["_id"])
        if sum(map(len, keys.values())) >= _KEYS_AT_ONCE:
            _refuse(store, keys)
            keys = {}
    _refuse(store, keys)


def _refuse(store: DBService, keys: dict[str, list[str]]) -> None:
    for collection, some in keys.items():
        if found := present(store, collection, some):
            raise duplicate(collection, found)
