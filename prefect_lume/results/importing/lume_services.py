"""Taking over the results that LUME-services kept in MongoDB.

**How LUME-services stored results.** In one database, in several ways over the years:

1. *mongoengine* (``lume_services.data.results.db.mongodb``). Collections ``Generic``
   and ``Impact``. Documents have ``_id`` (ObjectId), ``flow_id``, ``inputs``,
   ``outputs``, ``date_modified`` (date, UTC), later ``unique_result_hash`` (MD5 of
   inputs, outputs and flow), at first ``_cls`` (``ResultDocument`` and the subclass).
   Impact adds ``plot_file`` and ``archive`` (paths as text), ``pv_collection_isotime``
   (date) and ``config``.
2. *pydantic, as JSON* (``lume_services.data.results``, then ``lume_services.results``).
   Collections ``generic`` and ``Impact``, or the name a user's type gave. All is what
   JSON has: dates are ISO text without a zone (UTC), arrays are text that holds a JSON
   list. New are ``unique_hash``, ``result_type_string`` (``module:class``),
   ``collection`` or ``model_type``; files are ``{"filename", "file_type_string",
   "filesystem_identifier", "loader"?}``.
3. *pydantic, as BSON* (the last). One collection per Prefect project, or per type as
   before; ``project_name``; dates are dates again; ``result_type_string`` is
   ``module.class``. Arrays are *pickles* (protocol 2) in binary fields; tables are text
   as pandas' ``to_json()`` writes it (ten decimals, labels as text).

Where earlier versions kept raw documents without a class, they are read as far as they
have ``inputs`` and ``outputs``.

**What they become.** A ``Generic`` or ``Impact`` result, found like any other, with one
field more: ``lume_services`` tells where it comes from and keeps all that has no field
here. ``find(project, {"lume_services.unique_hash": "9f..."})`` finds it by its old
hash.

=====================  ==========================================================
``lume_services.``     what it is
=====================  ==========================================================
``_id``                the document's ``_id``; an ObjectId as its 24 digits
``collection``         the collection that it was in
``unique_hash``        its hash there (an MD5; the result has a new one of its own)
``result_type``        the class that it had there, which is never imported
``project_name``       its project, if the import was told another
``date_modified``      the date's text, if it was text
``date_from``          ``"_id"`` or ``"import"``: the document had no date
``files.archive``      what it said of its files: name, file system
``files.plot_file``    the same
``fields``             every field that is named nowhere above
=====================  ==========================================================

The result's own identity is its content *and* the document it was, so that importing
twice stores nothing twice, and two documents with the same content stay two results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo.database import Database

from prefect_lume.errors import (
    EncodingError,
    InvalidInputError,
    LumeError,
    NotFoundError,
    clip,
)
from prefect_lume.results.documents import to_document
from prefect_lume.results.importing.documents import to_result
from prefect_lume.results.importing.report import CollectionCounts, ImportReport
from prefect_lume.results.importing.values import DescribeFile, ValueReader, shown
from prefect_lume.results.stores.checks import (
    RESERVED,
    check_collection,
    check_document,
)
from prefect_lume.storage import mongo

if TYPE_CHECKING:
    from prefect_lume.results.result import Result
    from prefect_lume.results.service import ResultsService

#: Called with the collection, how many of its documents were read, and how many it has.
Progress = Callable[[str, int, int], None]

_BATCH: Final = 500
_BATCH_BYTES: Final = 32 << 20
# Bytes that are no UTF-8, and dates out of Python's range, are then a problem of their
# document instead of an exception that ends the reading of all.
_CODEC: Final = CodecOptions[dict[str, Any]](
    tz_aware=True,
    unicode_decode_error_handler="surrogateescape",
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
)


def import_lume_services(
    source: Database[dict[str, Any]],
    service: ResultsService,
    *,
    project_name: str | None = None,
    collections: Sequence[str] | None = None,
    allow_pickle: bool = False,
    decode_text: bool = True,
    describe_file: DescribeFile | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> ImportReport:
    """Store the results of a LUME-services database in ours.

    Documents are read one after the other, and only read: the source is not changed.
    One that cannot be imported as a whole is not imported at all, and the report says
    why. Doing it again stores what is missing.

    Args:
        source: The database, of a client from
            :func:`prefect_lume.storage.mongo.get_client`.
        service: Where the results go.
        project_name: The project of all results. None keeps each document's own, else
            the name of its collection.
        collections: The collections to read. None reads all of them.
        allow_pickle: Read arrays, which LUME-services pickled. Only numpy arrays of
            numbers, text, bytes, dates, records and plain objects are read, by a reader
            that calls nothing a pickle names. Without it, a document that holds a
            pickle is not imported.
        decode_text: Text in the form in which LUME-services kept arrays and tables
            becomes arrays and tables again.
        describe_file: Returns the reference of an Impact result's archive or plot
            (``{"filename": ..., "filesystem_identifier": ...}``), or None where the
            file is not at hand. What was said of it is kept in any case. A dry run
            does not call it.
        dry_run: Read and check everything, and write nothing.
        progress: Called after each batch with the collection, how many of its
            documents were read, and how many it has.

    Returns:
        What was stored, was there already, and could not be imported.

    Raises:
        NotFoundError: A collection does not exist.
        InvalidInputError: The source is the database that the results go to.
        StorageError: One of the databases cannot be used.
        MissingDependencyError: A table or array is to be read, and pandas or numpy is
            not installed.
    """
    where = _where(source)
    if where == service.db_service.where:
        raise InvalidInputError(
            f"{where} is the database that the results would go to. Import into "
            "another database, for example by another 'database' of the Block."
        )
    report = ImportReport(where, dry_run=dry_run)
    # Describing a file may save it.
    describe = None if dry_run else describe_file
    with mongo.translated(where):
        for collection in _collections(source, collections):
            report.collections[collection] = CollectionCounts()
            batch = _Batch(service, report, collection)
            size = source[collection].estimated_document_count() if progress else 0
            for document in _documents(source, collection):
                report.collections[collection].read += 1
                key = shown(document.get("_id"))
                reader = ValueReader(allow_pickle=allow_pickle, decode_text=decode_text)
                result = to_result(document, collection, project_name, reader, describe)
                if result is None:
                    report.failed(collection, key, *reader.problems)
                else:
                    batch.add(key, result, reader.size)
                done = report.collections[collection].read
                if progress and done % _BATCH == 0:
                    progress(collection, done, max(size, done))
            batch.flush()
            if progress:
                done = report.collections[collection].read
                progress(collection, done, done)
    return report


def _where(source: Database[dict[str, Any]]) -> str:
    return mongo.describe(source.client, source.name)


def _collections(
    source: Database[dict[str, Any]], wanted: Sequence[str] | None
) -> list[str]:
    known = sorted(
        name
        for name in source.list_collection_names()
        if not name.startswith(("system.", RESERVED))
    )
    if wanted is None:
        return known
    for name in wanted:
        if name not in known:
            raise NotFoundError("collection named", name, known)
    return list(dict.fromkeys(wanted))


def _documents(
    source: Database[dict[str, Any]], collection: str
) -> Iterator[dict[str, Any]]:
    found = source.get_collection(collection, codec_options=_CODEC)
    return iter(found.find({}).sort("_id", 1).batch_size(100))


class _Batch:
    """Results that wait to be stored together."""

    def __init__(
        self, service: ResultsService, report: ImportReport, collection: str
    ) -> None:
        self._service = service
        self._report = report
        self._collection = collection
        self._waiting: list[tuple[str, Result]] = []
        self._size = 0

    def add(self, key: str, result: Result, size: int) -> None:
        try:
            check_collection(result.project_name)
        except InvalidInputError as error:
            self._failed(key, error)
            return
        self._waiting.append((key, result))
        self._size += size
        if len(self._waiting) >= _BATCH or self._size >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting, self._size = self._waiting, [], 0
        if not waiting:
            return
        check = self._check if self._report.dry_run else self._store
        check(waiting)

    def _store(self, waiting: list[tuple[str, Result]]) -> None:
        counts = self._report.collections[self._collection]
        outcomes = self._service.store_many([result for _, result in waiting])
        for (key, _), outcome in zip(waiting, outcomes, strict=True):
            if outcome.error is not None:
                self._failed(key, outcome.error)
            elif outcome.status == "present":
                counts.present += 1
            else:
                counts.stored += 1

    def _check(self, waiting: list[tuple[str, Result]]) -> None:
        counts = self._report.collections[self._collection]
        hashes: dict[str, list[str]] = {}
        for key, result in waiting:
            try:
                # The whole is encoded, so that what cannot be stored is found.
                tree = to_document(result).tree
                check_document(result.project_name, tree)
            except (EncodingError, InvalidInputError) as error:
                self._failed(key, error)
                continue
            hashes.setdefault(result.project_name, []).append(tree["_id"])
        for project, wanted in hashes.items():
            present = self._service.count(project, {"unique_hash": {"$in": wanted}})
            counts.present += present
            counts.stored += len(wanted) - present

    def _failed(self, key: str, error: LumeError) -> None:
        path = error.path if isinstance(error, EncodingError) else ""
        reason = str(error).removeprefix(f"{path}: ")
        self._report.failed(self._collection, key, (path, clip(reason, 500)))
