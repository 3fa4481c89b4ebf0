"""How documents get into MongoDB: with their blobs, in few round trips, once.

There are no transactions: a standalone server has none. A writer lets each blob count
as stored now or uploads it, then inserts the document, then looks whether the blobs are
still there and puts back what is not. A clean-up removes a blob only if no document
refers to it and if, in the same instant, it counts as stored before some moment that
lies longer ago than storing takes (``blob_lease``). So a document that comes less than
that after its blobs finds them. One that comes later, from a writer that was suspended,
may lack them until the last step puts them back. A blob whose last document is removed
while a new one comes is kept by the touch of that one's writer. A reader that loads a
document while it is removed may miss its blobs: the result is gone, then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from bson.errors import BSONError
from pymongo import ReplaceOne
from pymongo import errors as driver

from prefect_lume.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from prefect_lume.results.stores.base import Outcome, Tree
from prefect_lume.results.stores.blobs import Data, pieces_of
from prefect_lume.results.stores.checks import check_document
from prefect_lume.results.stores.mongo.blobs import MongoBlobs
from prefect_lume.results.stores.mongo.held import (
    BLOBS,
    Documents,
    GetBlob,
    held_by,
    shown,
    sorted_tree,
)
from prefect_lume.results.stores.mongo.indices import MongoIndices
from prefect_lume.results.stores.mongo.uploads import Source
from prefect_lume.storage.mongo import FAULTS, is_transient, translate

if TYPE_CHECKING:
    from prefect_lume.results.codecs import Encoded

#: The most documents of one request.
_BATCH: Final = 1000
_DUPLICATE: Final = 11000
#: How often something is tried again that may pass the next time.
_ATTEMPTS: Final = 3


class Draft(NamedTuple):
    """A document as it will be stored, and what it needs.

    Attributes:
        tree: With the hidden fields.
        held: The blobs it needs.
        data: The blobs that came with it.
    """

    tree: Tree
    held: frozenset[str]
    data: Mapping[str, Data]

    @property
    def key(self) -> str:
        """The document's ``_id``."""
        return str(self.tree["_id"])

    @property
    def blobs(self) -> bool:
        """Whether there is any blob to be seen to."""
        return bool(self.held or self.data)

    def equals(self, stored: Tree) -> bool:
        """Tell whether a stored document is this one."""
        return shown(dict(stored)) == shown(dict(self.tree))


class MongoWriter:
    """Writes documents; its methods raise pymongo's exceptions and the package's.

    Args:
        blobs: The blobs of the same database.
        indices: The indices of the same database.
        get_blob: Loads a part of a document that is a blob.
        lease: How long a blob is safe from clean-ups without a document.
        where: Returns the server and database, for messages.
    """

    def __init__(
        self,
        blobs: MongoBlobs,
        indices: MongoIndices,
        get_blob: GetBlob,
        lease: timedelta,
        where: Callable[[], str],
    ) -> None:
        self._blobs, self._indices, self._get_blob = blobs, indices, get_blob
        self._lease, self._where = lease.total_seconds(), where

    def draft(self, collection: str, encoded: Encoded) -> Draft:
        """Return what is to be stored of a document.

        Raises:
            InvalidInputError: The collection's name or a header field is not allowed.
            IntegrityError: A part of it is a blob that is not there.
        """
        check_document(collection, encoded.tree)
        tree, blobs = sorted_tree(encoded.tree)
        held: Mapping[str, list[str]] = {}
        if blobs:

            def get_blob(sha256: str) -> bytes | bytearray:
                data = encoded.blobs.get(sha256)
                return self._get_blob(sha256) if data is None else bytes(data)

            try:
                held = held_by(tree, get_blob)
            except NotFoundError as error:
                raise self._unknown(str(error.name)) from error
        tree |= held
        tree |= self._indices.hidden_fields(encoded.tree)
        return Draft(tree, frozenset(held.get(BLOBS, ())), encoded.blobs)

    def insert(self, documents: Documents, draft: Draft) -> bool:
        """Store a document with its blobs, unless one of its key is there."""
        if draft.blobs:
            if documents.find_one({"_id": draft.key}, {"_id": 1}) is not None:
                return False
            self._put(draft.held, draft.data)
        stored = self._insert(documents, draft)
        if stored:
            self._verify(documents, [draft])
        return stored

    def _insert(self, documents: Documents, draft: Draft, attempt: int = 0) -> bool:
        try:
            documents.insert_one(draft.tree)
        except driver.DuplicateKeyError as error:
            stored = documents.find_one({"_id": draft.key})
            if stored is None:
                raise self._not_unique(draft.tree) from error
            return attempt > 0 and draft.equals(stored)
        except driver.PyMongoError as error:
            if attempt == _ATTEMPTS or not is_transient(error):
                raise
            # Whether it was stored before the connection was lost is not known.
            return self._insert(documents, draft, attempt + 1)
        return True

    def replace(self, documents: Documents, draft: Draft) -> None:
        """Store a document with its blobs, in place of the one with its key."""
        self._put(draft.held, draft.data)
        self._replace(documents, draft)
        self._verify(documents, [draft])

    def _replace(self, documents: Documents, draft: Draft, attempt: int = 0) -> None:
        try:
            documents.replace_one({"_id": draft.key}, draft.tree, upsert=True)
        except driver.DuplicateKeyError as error:
            if attempt == _ATTEMPTS:
                raise self._not_unique(draft.tree) from error
            # Concurrent upserts of one key may collide: then it is there now.
            self._replace(documents, draft, attempt + 1)
        except driver.PyMongoError as error:
            if attempt == _ATTEMPTS or not is_transient(error):
                raise
            self._replace(documents, draft, attempt + 1)

    def write_many(
        self, documents: Documents, drafts: Sequence[Draft], *, replace: bool
    ) -> dict[str, Outcome]:
        """Store documents of different keys, each as it would be stored alone.

        Returns:
            For each key what :meth:`insert` or :meth:`replace` would have said.
        """
        outcomes: dict[str, Outcome] = {}
        types = {draft.tree["result_type"] for draft in drafts}
        if not any(map(self._indices.unique_fields, types)):
            # In one order in all writers, or they might wait for each other in a
            # circle. Of two that share a unique value the first is to win.
            drafts = sorted(drafts, key=attrgetter("key"))
        for start in range(0, len(drafts), _BATCH):
            batch = drafts[start : start + _BATCH]
            if not replace:
                keys = [draft.key for draft in batch if draft.blobs]
                outcomes |= dict.fromkeys(_present(documents, keys), False)
            new = [draft for draft in batch if draft.key not in outcomes]
            problems = self._put_all(new)
            outcomes |= problems
            new = [draft for draft in new if draft.key not in problems]
            send = self._replace_all if replace else self._insert_all
            answers = send(documents, new)
            outcomes |= answers
            self._verify(documents, [d for d in new if answers[d.key] is True])
        return outcomes

    def _insert_all(
        self, documents: Documents, drafts: Sequence[Draft], attempt: int = 0
    ) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = dict.fromkeys((d.key for d in drafts), True)
        try:
            if drafts:
                documents.insert_many([d.tree for d in drafts], ordered=False)
        except driver.BulkWriteError as error:
            failed = self._failed(error, drafts)
            twins = {d.key: d for d in drafts if d.key in failed}
            kept = None if attempt else {"_id": 1}
            stored = documents.find({"_id": {"$in": list(twins)}}, kept)
            there = {
                tree["_id"]: attempt > 0 and twins[tree["_id"]].equals(tree)
                for tree in stored
            }
            for key, problem in failed.items():
                if isinstance(problem, InvalidInputError):
                    outcomes[key] = problem
                elif problem is not None:
                    write = partial(self._insert, documents, twins[key], attempt)
                    outcomes[key] = self._alone(write)
                elif key in there:
                    outcomes[key] = there[key]
                else:
                    outcomes[key] = self._not_unique(twins[key].tree)
        except FAULTS as error:
            if attempt < _ATTEMPTS and is_transient(error):
                return self._insert_all(documents, drafts, attempt + 1)
            # Nothing says which one it is, nor what was stored before it.
            self._unless_document(error)
            for draft in drafts:
                write = partial(self._insert, documents, draft, 1)
                outcomes[draft.key] = self._alone(write)
        return outcomes

    def _replace_all(
        self, documents: Documents, drafts: Sequence[Draft], attempt: int = 0
    ) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = dict.fromkeys((d.key for d in drafts), True)
        single: Sequence[Draft] = ()
        try:
            if drafts:
                documents.bulk_write(
                    [ReplaceOne({"_id": d.key}, d.tree, upsert=True) for d in drafts],
                    ordered=False,
                )
        except driver.BulkWriteError as error:
            failed = self._failed(error, drafts)
            for draft in drafts:
                problem = failed.get(draft.key)
                if isinstance(problem, InvalidInputError):
                    outcomes[draft.key] = problem
            single = [
                draft
                for draft in drafts
                if draft.key in failed and outcomes[draft.key] is True
            ]
        except FAULTS as error:
            if attempt < _ATTEMPTS and is_transient(error):
                return self._replace_all(documents, drafts, attempt + 1)
            self._unless_document(error)
            single = drafts
        for draft in single:
            outcomes[draft.key] = self._alone(partial(self._replace, documents, draft))
        return outcomes

    def _alone(self, write: Callable[[], bool | None]) -> Outcome:
        try:
            return write() is not False
        except FAULTS as error:
            return self._unless_document(error)
        except ConflictError as error:
            return error

    def _unless_document(
        self, error: BSONError | driver.PyMongoError
    ) -> InvalidInputError:
        """Return what is wrong with a document; raise if that is not the matter."""
        problem = translate(error, self._where())
        if not isinstance(problem, InvalidInputError):
            raise problem from error
        return problem

    def _failed(
        self, error: driver.BulkWriteError, drafts: Sequence[Draft]
    ) -> dict[str, InvalidInputError | driver.OperationFailure | None]:
        """Return what failed in a batch.

        None stands for a duplicate of some kind, pymongo's error for what is worth
        another attempt.
        """
        details = error.details
        if details.get("writeConcernErrors"):
            raise error
        failed: dict[str, InvalidInputError | driver.OperationFailure | None] = {}
        for item in details["writeErrors"]:
            key, code = drafts[item["index"]].key, item["code"]
            if code == _DUPLICATE:
                failed[key] = None
                continue
            refused = driver.OperationFailure(item["errmsg"], code)
            again = is_transient(refused)
            failed[key] = refused if again else self._unless_document(refused)
        return failed

    def _put_all(self, drafts: Sequence[Draft]) -> dict[str, IntegrityError]:
        held: set[str] = set().union(*(draft.held for draft in drafts))
        try:
            self._put(held, _data(drafts))
        except IntegrityError:
            pass
        else:
            return {}
        problems = {}
        for draft in drafts:
            try:
                self._put(draft.held, draft.data)
            except IntegrityError as error:
                problems[draft.key] = error
        return problems

    def _put(self, held: Collection[str], data: Mapping[str, Data]) -> None:
        """Let blobs be there, and count as stored now."""
        wanted = {*held, *data}
        if not wanted:
            return
        started = time.monotonic()
        absent = wanted - self._blobs.touch(wanted)
        unknown = absent - data.keys()
        if unknown:
            raise self._unknown(min(unknown))
        if absent:
            self._blobs.upload(
                Source(key, memoryview(data[key]).nbytes, pieces_of(data[key]))
                for key in sorted(absent)
            )
        if time.monotonic() - started > self._lease / 2:
            self._put(held, data)

    def _verify(self, documents: Documents, drafts: Sequence[Draft]) -> None:
        """Put back what a clean-up took because storing took too long."""
        held: set[str] = set().union(*(draft.held for draft in drafts))
        gone = held - self._blobs.present(held) if held else set()
        if not gone:
            return
        data = {key: one for key, one in _data(drafts).items() if key in gone}
        try:
            self._put(gone, data)
        except IntegrityError:
            lost = gone - data.keys()
            broken = [draft.key for draft in drafts if draft.held & lost]
            documents.delete_many({"_id": {"$in": broken}})
            raise

    def _unknown(self, sha256: str) -> IntegrityError:
        where = self._where()
        return IntegrityError(
            f"{where}: a document needs the blob {sha256}, which is neither stored nor "
            f"given with it. The document was not stored. Store the blob first.",
            where,
        )

    def _not_unique(self, tree: Tree) -> ConflictError:
        names = self._indices.unique_fields(tree["result_type"])
        return ConflictError(
            f"{self._where()}: another result of type {tree['result_type']!r} has the "
            f"same values in a unique index (on {names or 'the server'})."
        )


def _data(drafts: Sequence[Draft]) -> dict[str, Data]:
    return {key: data for draft in drafts for key, data in draft.data.items()}


def _present(documents: Documents, keys: list[str]) -> list[str]:
    if not keys:
        return []
    return [tree["_id"] for tree in documents.find({"_id": {"$in": keys}}, {"_id": 1})]
