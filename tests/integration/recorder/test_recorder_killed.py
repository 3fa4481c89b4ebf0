"""The recorder itself is killed, or runs twice: nothing is lost, nothing is doubled.

``LUME_RECORDER_FULL=1`` runs at full size: 20,000 changes, 59 kills.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from datetime import datetime, timedelta
from typing import Any

import httpx
from sqlalchemy import Engine, event

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.changes import Batch
from prefect_lume.pipelines.orm import OrmPipelineResultsStorage
from prefect_lume.storage import sql


def _start(storage: PipelineStorage, since: datetime) -> datetime | None:
    # Once one has kept how far it was, the others go on from there.
    return None if storage.get_position("here") else since


#: Changes in one transaction: few, so that each recorder has several to do.
BATCH = 50
#: A recorder that is killed amid its work is so when it has recorded at least so many
#: changes, and so many statements later: by then it has not recorded all it was given.
MOST_NEW, MOST_STATEMENTS = 60, 25
RUNS_EACH = 3


class _Doomed(OrmPipelineResultsStorage):
    """A storage whose process is killed amid its statements.

    Args:
        engine: Its database.
        new: So many new changes are recorded before.
        statements: So many statements later it is killed: within a transaction, or
            between two.
    """

    def __init__(self, engine: Engine, new: int, statements: int) -> None:
        super().__init__(engine)
        self._missing, self._statements = new, statements
        event.listen(engine, "before_cursor_execute", self._count)

    def record(self, batch: Batch) -> int:
        """Record a batch, and count what was new of it."""
        new = super().record(batch)
        self._missing -= new
        return new

    def _count(self, *_statement: Any) -> None:
        if self._missing > 0:
            return
        self._statements -= 1
        if self._statements < 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _record_until_killed(
    lab: Any, api: str, url: str, since: datetime, doom: tuple[int, int] | None
) -> None:
    engine = sql.get_engine(url)
    storage = _Doomed(engine, *doom) if doom else OrmPipelineResultsStorage(engine)
    start = _start(storage, since)
    with lab.service(api, storage, since=start, batch=BATCH) as service:
        service.run(threading.Event())


def test_a_recorder_killed_again_and_again_records_all_once(
    lab: Any, prefect_api_url: str, mariadb_url: str
) -> None:
    """Killed (-9) at random moments: nothing missing, nothing twice, the same rows."""
    kills = 59 if lab.is_full else 6
    storage = lab.new_storage(mariadb_url)
    since = lab.since()
    fork = multiprocessing.get_context("fork")
    moments = random.Random(5)
    events: list[dict[str, Any]] = []
    for number in range(kills):
        before = lab.count(storage, lab.run_ids(events))
        portion = lab.make_events(RUNS_EACH * lab.changes_each)
        events += portion
        # Each third is killed wherever it is, be it before it has begun.
        amid = number % 3 > 0
        doom = moments.randint(1, MOST_NEW), moments.randint(0, MOST_STATEMENTS)
        arguments = (lab, prefect_api_url, mariadb_url, since, doom if amid else None)
        recorder = fork.Process(target=_record_until_killed, args=arguments)
        # A process too, since what is forked must not inherit what a thread holds.
        feeding = fork.Process(target=lab.post, args=(prefect_api_url, portion))
        recorder.start()
        feeding.start()
        if not amid:
            time.sleep(moments.uniform(0.1, 1.5))
            assert recorder.pid is not None
            os.kill(recorder.pid, signal.SIGKILL)
        recorder.join(lab.patience)
        assert recorder.exitcode == -signal.SIGKILL
        feeding.join(lab.patience)
        assert feeding.exitcode == 0
        recorded = lab.count(storage, lab.run_ids(events))
        # By construction; otherwise nothing was put to the test.
        assert not amid or before < recorded < len(events)
    start = _start(storage, since)
    with lab.recording(prefect_api_url, storage, since=start):
        ids = lab.run_ids(events)
        lab.wait_for(lambda: lab.count(storage, ids) >= len(events))
    lab.assert_complete(storage, prefect_api_url, events)


class _Disordered:
    """A client to which pages of events come shuffled, a third of them twice."""

    def __init__(self, client: Any, disorder: random.Random) -> None:
        self._client, self._disorder = client, disorder

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        response: httpx.Response = self._client.request(method, path, **options)
        if not path.startswith("/events/filter"):
            return response
        answer = response.json()
        events = answer["events"]
        events += self._disorder.sample(events, len(events) // 3)
        self._disorder.shuffle(events)
        told = {"date": response.headers["date"]}
        return httpx.Response(200, json=answer, headers=told, request=response.request)


def test_two_recorders_one_of_them_in_disorder_make_the_same_rows(
    lab: Any, prefect_api_url: str, mariadb_url: str
) -> None:
    """Pages that come shuffled and twice, beside a second recorder, do no harm.

    Both conclude all the time that runs must have ended, as those are not in Prefect;
    what is reported counts.
    """
    storage = lab.new_storage(mariadb_url)
    events = lab.make_events(4_000 if lab.is_full else 1_000)
    disorder = random.Random(7)
    options = {
        "since": lab.since(),
        "reconcile_every": 0.5,
        "settled": timedelta(),
    }
    first = lab.recording(prefect_api_url, storage, "first", **options)
    second = lab.recording(
        prefect_api_url,
        storage,
        "second",
        wrap=lambda client: _Disordered(client, disorder),
        batch=70,
        **options,
    )
    expected = {event["id"] for event in events}

    def recorded() -> set[str]:
        _, history = lab.content(storage, lab.run_ids(events))
        return {change.id for changes in history.values() for change in changes}

    with first as one, second as other:
        # In disorder by itself, and slowly enough for something to be concluded.
        mixed = disorder.sample(events, len(events))
        for start in range(0, len(mixed), 250):
            lab.post(prefect_api_url, mixed[start : start + 250])
            lab.wait_for(lambda: one.statistics.closed + other.statistics.closed > 0)
            time.sleep(1.0)
        lab.wait_for(lambda: recorded() == expected)
        time.sleep(1.0)
    closed = one.statistics.closed + other.statistics.closed
    lab.assert_complete(storage, prefect_api_url, events)
    # What both concluded was taken once.
    inferred = lab.count(storage, lab.run_ids(events)) - len(events)
    assert closed >= inferred > 0
