"""Writing a unit of work so that all of it is kept, or nothing, without transactions.

1. Everything that a unit of work wants to write goes into the *journal*. Should the
   process die here, nobody ever reads it.
2. In one write to each run's own document (see ``turns``), the unit becomes the run's
   next version, which is ``pending``. This succeeds only if nobody else made one since
   the unit began to read, and it is the moment from which the unit counts.
3. What the journal holds is written where it belongs, and the run is pending no more.
   Should the process die before, the next one to touch the run does this step: it
   does no harm to do it twice, or by two at once.

Each document has the version of the run as of which it was written, and is only ever
replaced by one of a later version. So a process that was held up in step 3 (stopped,
swapped out, cut off from the network), and goes on after others have written more,
does not overwrite anything newer. None of this depends on clocks or on timeouts, with
one exception, for a run that was removed meanwhile: :func:`_forget_removed`.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import bson
from pymongo import ReplaceOne
from pymongo import errors as driver
from pymongo.database import Database

from prefect_lume.pipelines.mongo.documents import VERSION, Document
from prefect_lume.pipelines.mongo.indices import (
    JOURNAL,
    RUNS,
    STATES,
    Documents,
    documents,
)
from prefect_lume.pipelines.rows import Kind
from prefect_lume.storage.mongo import repeated

_DUPLICATE: Final = 11000
#: Bytes of one entry of the journal, before they are compressed.
_PART: Final = 8 << 20
#: An entry that nobody made pending for a day (in microseconds) never will be.
_FORGOTTEN: Final = 86_400_000_000
#: Who looks at an object finds what is above it, and what is above it is never ahead.
_TOP_DOWN: Final = (STATES, *Kind)

#: Collections' names to what is to be written to them.
Writes = dict[str, list[Document]]


@dataclass
class Entry:
    """What a unit of work writes of one run.

    Attributes:
        new: Documents that were not there before.
        changed: Documents in place of those that were.
    """

    new: Writes = field(default_factory=dict)
    changed: Writes = field(default_factory=dict)

    def add(self, name: str, document: Document, *, is_new: bool) -> None:
        """Take in a document for a collection."""
        writes = self.new if is_new else self.changed
        writes.setdefault(name, []).append(document)

    def merge(self, other: Entry) -> None:
        """Take in another entry."""
        for mine, others in ((self.new, other.new), (self.changed, other.changed)):
            for name, found in others.items():
                mine.setdefault(name, []).extend(found)


def write(
    database: Database[Document], token: str, entries: Mapping[str, Entry]
) -> None:
    """Put what a unit of work writes of each run into the journal."""
    made = time.time_ns() // 1000
    parts = [
        {
            "_id": f"{token}/{n}/{run}",
            "token": token,
            "run": run,
            "made": made,
            "data": d,
        }
        for run, entry in entries.items()
        for n, d in enumerate(_packed(entry))
    ]
    journal = documents(database, JOURNAL)
    for start in range(0, len(parts), 100):
        insert_missing(journal, parts[start : start + 100])


def _packed(entry: Entry) -> Iterator[bytes]:
    part: list[bytes] = []
    size = 0
    for is_new, writes in ((True, entry.new), (False, entry.changed)):
        for name, found in writes.items():
            for document in found:
                data = bson.encode({"c": name, "n": is_new, "d": document})
                if part and size + len(data) > _PART:
                    yield zlib.compress(b"".join(part), 1)
                    part, size = [], 0
                part.append(data)
                size += len(data)
    yield zlib.compress(b"".join(part), 1)


def read(database: Database[Document], token: str, run: str) -> Entry:
    """Return what a unit of work writes of one run; empty if it was written."""
    entry = Entry()
    query = {"token": token, "run": run}
    for part in repeated(lambda: list(documents(database, JOURNAL).find(query))):
        for item in bson.decode_all(zlib.decompress(part["data"])):
            entry.add(item["c"], item["d"], is_new=item["n"])
    return entry


def apply(database: Database[Document], entry: Entry) -> None:
    """Write what a unit of work wants to write. May be done again, or by two at once.

    What is new comes from the top down, and what changed from the bottom up.
    """
    changed = {name: list(found) for name, found in entry.changed.items()}
    for name in _TOP_DOWN:
        found = entry.new.get(name, [])
        there = insert_missing(documents(database, name), found) if found else []
        if there and name != STATES:
            changed.setdefault(name, []).extend(there)
    for name in reversed(_TOP_DOWN):
        if changed.get(name):
            _replace_older(documents(database, name), changed[name])


def _replace_older(collection: Documents, found: Sequence[Document]) -> None:
    # Where a newer one is, the filter does not match, and the new key is a duplicate.
    requests = [
        ReplaceOne(
            {"_id": one["_id"], VERSION: {"$lt": one[VERSION]}}, one, upsert=True
        )
        for one in sorted(found, key=lambda one: str(one["_id"]))
    ]
    repeated(lambda: duplicates(lambda: collection.bulk_write(requests, ordered=False)))


def insert_missing(collection: Documents, found: Sequence[Document]) -> list[Document]:
    """Insert documents, and return those whose key was there already."""
    places = repeated(
        lambda: duplicates(lambda: collection.insert_many(found, ordered=False))
    )
    return [found[place] for place in places]


def duplicates(action: Callable[[], object]) -> list[int]:
    """Do a bulk write and return the places of the items whose key was there already.

    Raises:
        BulkWriteError: Something else is wrong.
    """
    try:
        action()
    except driver.BulkWriteError as error:
        errors = error.details["writeErrors"]
        concern = error.details.get("writeConcernErrors")
        if concern or any(one["code"] != _DUPLICATE for one in errors):
            raise
        return [one["index"] for one in errors]
    return []


def finish(
    database: Database[Document], token: str, runs: Collection[str], version: int
) -> None:
    """Let runs whose pending version was written be pending no more."""
    mine = {"_id": {"$in": list(runs)}, "pending": token}
    cleared = repeated(
        lambda: documents(database, RUNS).update_many(mine, {"$unset": {"pending": ""}})
    )
    if cleared.matched_count < len(runs):
        _forget_removed(database, runs, version)
    forget(database, token)


def forget(database: Database[Document], token: str, run: str | None = None) -> None:
    """Remove what a unit of work has in the journal, of one run or of all."""
    query = {"token": token} if run is None else {"token": token, "run": run}
    repeated(lambda: documents(database, JOURNAL).delete_many(query))


def _forget_removed(
    database: Database[Document], runs: Collection[str], version: int
) -> None:
    """Remove what was written to runs after others had removed them.

    Only a process that was held up for so long that others wrote its version for it,
    and then removed the run, comes here. A run that was made anew since then has
    later versions, as they begin with the time: clocks would have to be apart by more
    than all this took.
    """
    query = {"_id": {"$in": list(runs)}, "removing": {"$exists": False}}
    found = repeated(lambda: list(documents(database, RUNS).find(query)))
    born = {run["_id"]: run["born"] for run in found}
    gone = [run for run in runs if born.get(run, version + 1) > version]
    if gone:
        remove(database, gone, version)


def remove(database: Database[Document], runs: Collection[str], version: int) -> None:
    """Remove all documents of runs up to a version, the executions' last."""
    query = {"run_id": {"$in": list(runs)}, VERSION: {"$lte": version}}
    for name in (STATES, *reversed(Kind)):
        repeated(partial(documents(database, name).delete_many, query))


def forget_old(database: Database[Document]) -> None:
    """Remove what units of work that died before they counted left in the journal."""
    old = {"made": {"$lt": time.time_ns() // 1000 - _FORGOTTEN}}
    tokens = {p["token"] for p in documents(database, JOURNAL).find(old, {"token": 1})}
    for token in tokens:
        if documents(database, RUNS).find_one({"pending": token}) is None:
            forget(database, token)
