"""Write results into a folder: JSON Lines and blobs, the same for equal results."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from prefect_lume.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from prefect_lume.results.finder import ResultType
from prefect_lume.results.service import ResultsService
from prefect_lume.results.stored import verify_document
from prefect_lume.results.stores.base import DBService, Query
from prefect_lume.results.stores.trees import blob_infos
from prefect_lume.results.transfer import archive
from prefect_lume.results.transfer.reading import (
    Document,
    changed,
    chosen_projects,
    pages,
    stored_query,
)
from prefect_lume.results.transfer.reports import Progress, Tally, TransferReport


def export_results(
    service: ResultsService,
    folder: str | os.PathLike[str],
    projects: Iterable[str] | None = None,
    query: Query = None,
    result_type: ResultType | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Write results into a folder, from which any results database can read them.

    The folder appears when all of it is written. Equal results make equal files,
    whatever database they come out of. Everything is verified on the way: a damaged
    document or blob ends the export, and names itself.

    Args:
        service: Where the results are.
        folder: What to write. It must not exist yet, or be empty.
        projects: Only these; None means all.
        query: Only results that match, in the language of ``find``.
        result_type: Only results of this type.
        progress: Called with documents done, documents in all, and bytes done.

    Returns:
        What was written.

    Raises:
        ConflictError: There is something in the folder already.
        NotFoundError: A project has no results.
        QueryError: The query is outside the language.
        IntegrityError: A document or blob in the database is damaged.
        StorageError: The database failed, or the folder cannot be written.
    """
    target = Path(folder).absolute()
    _require_room(target)
    store = service.db_service
    prepared = stored_query(query, result_type)
    chosen = chosen_projects(store, projects)
    total = sum(store.count(name, prepared) for name in chosen)
    tally = Tally(progress, total)
    with _written(target) as partial:
        _Exporter(store, partial, tally).run(chosen, prepared)
    tally.tell()
    return tally.report()


def _require_room(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise InvalidInputError(f"{target} is not a folder. Choose another one.")
    if target.is_dir() and any(target.iterdir()):
        raise ConflictError(
            f"The folder {target} is not empty, and an export replaces nothing. Choose "
            f"another one, or remove it."
        )


@contextmanager
def _written(target: Path) -> Iterator[Path]:
    """Give a folder beside the target, which takes its place at the end."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        (partial / archive.BLOBS).mkdir()
        yield partial
        partial.replace(target)
    except OSError as error:
        raise StorageError(
            f"The results cannot be exported to {target}: {error.strerror or error}.",
            str(target),
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


class _Exporter:
    """Writes the files of one export."""

    def __init__(self, store: DBService, folder: Path, tally: Tally) -> None:
        self._store = store
        self._folder = folder
        self._tally = tally
        self._mode = 0o777 & folder.stat().st_mode & ~0o111

    def run(self, projects: Iterable[str], query: dict[str, Any]) -> None:
        digest = hashlib.sha256()
        results = self._folder / archive.RESULTS
        with results.open("wb") as file:
            for project in projects:
                for page in pages(self._store, project, query):
                    for document in page:
                        self._document(project, document, file, digest)
                    self._tally.tell()
            size = file.tell()
        manifest = archive.Manifest(
            documents=self._tally.documents,
            results_bytes=size,
            results_sha256=digest.hexdigest(),
            blobs=self._tally.blobs,
            blob_bytes=self._tally.blob_bytes,
        )
        (self._folder / archive.MANIFEST).write_text(manifest.text(), "utf-8")

    def _document(
        self, project: str, document: Document, file: BinaryIO, digest: Any
    ) -> None:
        current: Document | None = document
        while current is not None:
            verify_document(current.tree)
            lacking = self._write_blobs(current.tree)
            if lacking is None:
                line = archive.line_of(project, current.text).encode("ascii") + b"\n"
                file.write(line)
                digest.update(line)
                self._tally.document(project, len(line))
                self._tally.stored += 1
                return
            current = changed(self._store, project, current, lacking)

    def _write_blobs(self, tree: dict[str, Any]) -> str | None:
        """Write a document's blobs; return the hash of one that is not there."""
        new: list[tuple[Path, int]] = []
        try:
            for info in blob_infos(tree, self._read):
                path = archive.blob_path(self._folder, info.sha256)
                if not path.exists():
                    path.parent.mkdir(exist_ok=True)
                    self._store.fetch_blob(info.sha256, path)
                    path.chmod(self._mode)
                    size = path.stat().st_size
                    new.append((path, size))
                    self._tally.moved(size)
        except NotFoundError as error:
            for path, _ in new:
                path.unlink()
            return str(error.name)
        for _, size in new:
            self._tally.blob(size)
        return None

    def _read(self, sha256: str) -> bytes:
        return archive.blob_path(self._folder, sha256).read_bytes()
