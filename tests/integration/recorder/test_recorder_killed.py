"""The recorder itself is killed, or runs twice: nothing is lost, nothing is doubled.

``LUME_RECORDER_FULL=1`` runs at full size: 20,000 changes, 50 kills.
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

from prefect_lume.pipelines.base import PipelineStorage
from prefect_lume.pipelines.orm import OrmPipelineResultsStorage
from prefect_lume.storage import sql


def _start(storage: PipelineStorage, since: datetime) -> datetime | None:
    # Once one has kept how far it was, the others go on from there.
    return None if storage.get_position("here") else since


def _record_until_killed(lab: Any, api: str, url: str, since: datetime) -> None:
    storage = OrmPipelineResultsStorage(sql.get_engine(url))
    start = _start(storage, since)
    with lab.service(api, storage, since=start, batch=100) as service:
        service.run(threading.Event())


def test_a_recorder_killed_again_and_again_records_all_once(
    lab: Any, prefect_api_url: str, mariadb_url: str
) -> None:
    """Killed (-9) at random moments: nothing missing, nothing twice, the same rows."""
    changes, kills = (20_000, 50) if lab.is_full else (1_500, 6)
    storage = lab.new_storage(mariadb_url)
    since = lab.since()
    events = lab.make_events(changes)
    ids = lab.run_ids(events)
    fork = multiprocessing.get_context("fork")
    # A process, since a child must not inherit what a thread holds.
    feeding = fork.Process(target=lab.post, args=(prefect_api_url, events))
    feeding.start()
    moments = random.Random(5)
    killed_at = []
    for number in range(kills):
        before = lab.count(storage, ids)
        arguments = (lab, prefect_api_url, mariadb_url, since)
        child = fork.Process(target=_record_until_killed, args=arguments)
        child.start()
        if number % 3:
            # In the middle of its work; each third one wherever it is.
            until = time.monotonic() + 15
            while lab.count(storage, ids) == before and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(moments.uniform(0, 0.2))
        else:
            time.sleep(moments.uniform(0.1, 1.5))
        assert child.is_alive()
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        killed_at.append(lab.count(storage, ids))
    feeding.join()
    assert feeding.exitcode == 0
    # Otherwise little was put to the test.
    assert len({count for count in killed_at if 0 < count < len(events)}) > 2
    start = _start(storage, since)
    with lab.recording(prefect_api_url, storage, since=start):
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
            time.sleep(1.0)
        lab.wait_for(lambda: recorded() == expected)
        time.sleep(1.0)
        closed = one.statistics.closed + other.statistics.closed
    lab.assert_complete(storage, prefect_api_url, events)
    # What both concluded was taken once.
    inferred = lab.count(storage, lab.run_ids(events)) - len(events)
    assert closed >= inferred > 0
