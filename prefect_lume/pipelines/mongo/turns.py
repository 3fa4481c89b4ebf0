"""Who may make the next version of a run.

A run has a document of its own::

    {_id: run id, version: 17, born: 3, by: token of the unit of work that made 17,
     pending: the same while 17 is being written, removing: true if it is a removal,
     claim: token of a unit of work that asks others to wait, attempt: 2,
     patience: seconds}

A unit of work reads the versions of its runs before anything else of them, and makes
the next one only if they are still the same. Of two that work on one run at once, one
fails and begins again from the start: *this* is what keeps them apart.

It would let a unit of much work fail again and again where others do little. So one
that failed puts a claim on the run, and others wait for it before they read. A claim
of a dead process is taken away after some time, which goes by how long the claimer
took before; it is a courtesy, not a lock, so it does no harm if its owner is alive.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo import InsertOne, UpdateOne
from pymongo.database import Database

from prefect_lume.pipelines.mongo import journal
from prefect_lume.pipelines.mongo.documents import Document
from prefect_lume.pipelines.mongo.indices import RUNS, Documents, documents
from prefect_lume.pipelines.mongo.journal import Entry
from prefect_lume.storage.mongo import repeated

#: Seconds after which a version that is still being written is written by another.
PENDING_PATIENCE: Final = 1.0
#: A claim is taken for one of a dead process after so many times the seconds that an
#: attempt took, but not before some seconds.
_CLAIMED_TIMES: Final = 4.0
_LEAST_PATIENCE: Final = 0.3
_LONGEST_PAUSE: Final = 0.05


@dataclass
class Unit:
    """One unit of work, over all of its attempts.

    Attributes:
        database: Where it works.
        attempt: How often it was begun.
        versions: The versions of the runs that it works on, as it read them.
        recorded: The ids of the changes that it has recorded of some of its runs, in
            attempts that failed for others.
    """

    database: Database[Document]
    attempt: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    recorded: set[str] = field(default_factory=set)
    _claim: str = field(default_factory=lambda: uuid.uuid4().hex)
    _began: float = 0.0
    _took: float = 0.0

    @property
    def _runs(self) -> Documents:
        return documents(self.database, RUNS)

    def begin(self) -> None:
        """Begin from the start."""
        now = time.monotonic()
        self._took = max(self._took, now - self._began) if self.attempt else 0.0
        self._began = now
        self.attempt += 1
        self.versions.clear()

    def lock(self, run_ids: Iterable[str]) -> None:
        """Read the versions of runs, when nobody is at writing them."""
        wanted = sorted(set(run_ids) - self.versions.keys())
        if not wanted:
            return
        if self.attempt > 1:
            for run in wanted:
                self._claim_run(run)
        found = self._wait(wanted)
        for run in wanted:
            self.versions[run] = found.get(run, 0)

    def _claim_run(self, run: str) -> None:
        self._wait([run])
        free = {"_id": run, "claim": {"$in": [None, self._claim]}}
        claim = {
            "claim": self._claim,
            "attempt": self.attempt,
            "patience": max(_LEAST_PATIENCE, _CLAIMED_TIMES * self._took),
        }
        repeated(lambda: self._runs.update_one(free, {"$set": claim}))

    def _wait(self, wanted: Sequence[str]) -> dict[str, int]:
        """Return the versions of runs, once nobody is at writing any of them."""
        seen: dict[str, tuple[object, float]] = {}
        pause = 0.002
        while True:
            found = self._read(wanted)
            now = time.monotonic()
            waiting = False
            for run in found:
                if "pending" not in run and run.get("claim") in (None, self._claim):
                    continue
                waiting = True
                holder = run.get("pending") or (run["claim"], run["attempt"])
                before = seen.get(run["_id"])
                if before is None or before[0] != holder:
                    seen[run["_id"]] = holder, now
                else:
                    self._take_over(run, now - before[1])
            if not waiting:
                return {run["_id"]: run["version"] for run in found}
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _read(self, wanted: Collection[str]) -> list[Document]:
        query = {"_id": {"$in": list(wanted)}}
        return repeated(lambda: list(self._runs.find(query)))

    def _take_over(self, run: Document, waited: float) -> None:
        if "pending" in run:
            if waited > PENDING_PATIENCE:
                complete(self.database, run)
        elif waited > run["patience"]:
            stale = {"_id": run["_id"], "claim": run["claim"]}
            self._runs.update_one(stale, {"$unset": {"claim": ""}})

    def is_current(self) -> bool:
        """Tell whether nobody has made a version of the runs since they were read."""
        found = {run["_id"]: run["version"] for run in self._read(self.versions)}
        return all(found.get(run, 0) == known for run, known in self.versions.items())

    def next_version(self) -> int:
        """Return the number of the version that it makes, of all of its runs."""
        # A run that is removed and made anew must not begin at 1: see ``journal``.
        return max([*self.versions.values(), time.time_ns() // 1000]) + 1

    def commit(self, entries: Mapping[str, Entry], version: int) -> set[str]:
        """Make the next version of runs, and write it.

        Returns:
            The runs of which it could; of the others somebody else made one.
        """
        token = uuid.uuid4().hex
        journal.write(self.database, token, entries)
        won = self._become(entries, version, token, {})
        together = Entry()
        for run in won:
            together.merge(entries[run])
        journal.apply(self.database, together)
        if won:
            journal.finish(self.database, token, won, version)
        else:
            journal.forget(self.database, token)
        return won

    def remove(self, run_ids: Collection[str]) -> bool:
        """Remove runs; tell whether nobody else was in the way."""
        token, version = uuid.uuid4().hex, self.next_version()
        won = self._become(run_ids, version, token, {"removing": True})
        journal.remove(self.database, won, version)
        mine = {"_id": {"$in": list(won)}, "pending": token}
        repeated(lambda: self._runs.delete_many(mine))
        return len(won) == len(run_ids)

    def _become(
        self, run_ids: Iterable[str], version: int, token: str, more: dict[str, Any]
    ) -> set[str]:
        """Make the next version of runs; return those of which nobody else did."""
        runs = list(run_ids)
        made = {"version": version, "by": token, "pending": token, **more}
        requests: list[UpdateOne | InsertOne[Document]] = []
        for run in runs:
            known = self.versions[run]
            if known:
                change: Document = {"$set": made}
                if self.attempt > 1:
                    change["$unset"] = {"claim": ""}
                requests.append(UpdateOne({"_id": run, "version": known}, change))
            else:
                requests.append(InsertOne({"_id": run, "born": version, **made}))
        repeated(
            lambda: journal.duplicates(
                lambda: self._runs.bulk_write(requests, ordered=False)
            )
        )
        return {run["_id"] for run in self._read(runs) if run["by"] == token}

    def release(self) -> None:
        """Take the claims away, if there are any left."""
        if self.attempt > 1:
            claimed = {"_id": {"$in": list(self.versions)}, "claim": self._claim}
            change = {"$unset": {"claim": ""}}
            repeated(lambda: self._runs.update_many(claimed, change))


def complete(database: Database[Document], run: Document) -> None:
    """Write the pending version of a run in place of who made it."""
    token, version, run_id = run["pending"], run["version"], run["_id"]
    if run.get("removing"):
        journal.remove(database, [run_id], version)
        mine = {"_id": run_id, "pending": token}
        repeated(lambda: documents(database, RUNS).delete_many(mine))
        return
    journal.apply(database, journal.read(database, token, run_id))
    mine = {"_id": run_id, "pending": token}
    change = {"$unset": {"pending": ""}}
    repeated(lambda: documents(database, RUNS).update_one(mine, change))
    journal.forget(database, token, run_id)


def complete_all(database: Database[Document]) -> None:
    """Write what processes that died were at writing, and tidy up after them."""
    pending = {"pending": {"$exists": True}}
    runs = documents(database, RUNS)
    before = {run["_id"]: run["pending"] for run in runs.find(pending)}
    if before:
        time.sleep(PENDING_PATIENCE)
        for run in list(runs.find(pending)):
            if before.get(run["_id"]) == run["pending"]:
                complete(database, run)
    journal.forget_old(database)
