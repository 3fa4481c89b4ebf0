"""The storage in MongoDB: how it is made, and that nothing of it is ever half done."""

import random
from functools import partial
from types import SimpleNamespace

import mongomock
import pytest
from pymongo import InsertOne, ReplaceOne
from pymongo.errors import BulkWriteError, DuplicateKeyError

from prefect_lume.errors import ConfigurationError, InvalidInputError
from prefect_lume.pipelines import Batch
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.mongo import MongoPipelineResultsStorage, turns
from prefect_lume.pipelines.rows import Kind
from prefect_lume.testing.pipelines_generated import History

WRITES = {
    "bulk_write",
    "insert_many",
    "update_one",
    "update_many",
    "delete_many",
}


READS = {"find", "find_one", "aggregate"}


class Died(BaseException):
    """The process is dead: nothing of it goes on, no clean-up either."""


class Watched:
    """A database which does something before one of the requests to it.

    Args:
        database: The database.
        at: The number of the request, from 0.
        then: What to do, given the collection, the method and its arguments.
        counted: The requests that count.
    """

    def __init__(self, database, at, then, counted=WRITES):
        self.database, self.at, self.then = database, at, then
        self.counted = counted
        self.count, self.dead = 0, False
        self.name, self.client = database.name, SimpleNamespace()

    def __getitem__(self, name):
        return WatchedCollection(self, self.database[name])


class WatchedCollection:
    """A collection of such a database."""

    def __init__(self, watched, collection):
        self._watched, self._collection = watched, collection

    def __getattr__(self, name):
        method = getattr(self._collection, name)
        if name == "bulk_write":
            method = partial(bulk_write, self._collection)

        def call(*args, **kwargs):
            watched = self._watched
            if watched.dead:
                raise Died
            if name in watched.counted:
                watched.count += 1
                if watched.count - 1 == watched.at:
                    watched.then(watched, self._collection, name, args)
            return method(*args, **kwargs)

        return call


def bulk_write(collection, requests, ordered):
    """Do what pymongo does; mongomock's own does not know pymongo's requests."""
    errors = []
    for index, request in enumerate(requests):
        try:
            if isinstance(request, InsertOne):
                collection.insert_one(request._doc)
            elif isinstance(request, ReplaceOne):
                collection.replace_one(request._filter, request._doc, upsert=True)
            else:
                collection.update_one(request._filter, request._doc)
        except DuplicateKeyError as error:
            errors.append({"index": index, "code": 11000, "errmsg": str(error)})
    if errors:
        raise BulkWriteError({"writeErrors": errors, "writeConcernErrors": []})


class WatchedStorage(MongoPipelineResultsStorage):
    """A storage over such a database, which has no address."""

    where = "mongodb://mock/lume"


@pytest.fixture
def database():
    """An empty database."""
    return mongomock.MongoClient().lume


@pytest.fixture(autouse=True)
def no_patience(monkeypatch):
    """Let nobody wait for the dead."""
    monkeypatch.setattr(turns, "PENDING_PATIENCE", 0.0)
    monkeypatch.setattr(turns, "_LEAST_PATIENCE", 0.0)


def over(database):
    """Return a storage over a database."""
    if not isinstance(database, Watched):
        database = Watched(database, -1, None)
    return WatchedStorage(lambda: database)


def content(storage):
    """Return all rows and changes of a storage."""
    rows = {kind: storage.find(kind) for kind in Kind}
    ids = [row.id for found in rows.values() for row in found]
    return rows, storage.get_history(ids)


def expected(*batches):
    """Return what the reference keeps of these batches."""
    reference = MemoryPipelineResultsStorage()
    for batch in batches:
        reference.record(batch)
    return content(reference)


def leftovers(database):
    """Return what is left of units of work that are over."""
    runs = database["lume_pipelines.run"]
    return (
        database["lume_pipelines.journal"].count_documents({}),
        runs.count_documents({"pending": {"$exists": True}}),
        runs.count_documents({"claim": {"$exists": True}}),
    )


def histories(seed, parts=2):
    """Return what is told of two runs in so many parts."""
    told = [*History(seed).batches, *History(seed + 1000).batches]
    random.Random(seed).shuffle(told)
    return [_joined(told[n::parts]) for n in range(parts)]


def _joined(batches):
    whole = Batch()
    for batch in batches:
        whole.add(batch)
    return whole


def requests_of(batch, first, counted=WRITES):
    """Return how many requests it takes to record a batch after another one."""
    database = mongomock.MongoClient().lume
    over(database).record(first)
    watched = Watched(database, -1, None, counted)
    over(watched).record(batch)
    return watched.count


@pytest.mark.parametrize("seed", range(6))
def test_it_keeps_what_the_reference_keeps(database, seed):
    """Rows and history of any batches in any order equal those of the reference."""
    history = History(seed)
    storage = over(database)
    for batch in history.rearranged(seed):
        storage.record(batch)
    assert content(storage) == expected(history.whole())
    assert leftovers(database) == (0, 0, 0)


def die(watched, collection, name, args):
    """Die before the write is sent."""
    watched.dead = True
    raise Died


def die_halfway(watched, collection, name, args):
    """Die when one half of what is sent was done."""
    watched.dead = True
    if name in {"bulk_write", "insert_many"}:
        some = args[0][: len(args[0]) // 2]
        if some:
            unwatched = WatchedCollection(
                Watched(watched.database, -1, None), collection
            )
            getattr(unwatched, name)(some, ordered=False)
    raise Died


@pytest.mark.parametrize("how", [die, die_halfway])
@pytest.mark.parametrize("seed", range(2))
def test_a_batch_may_die_at_any_write(seed, how):
    """Wherever recording broke off: recorded again, all is as if it never had."""
    first, second = histories(seed)
    wanted = expected(first, second)
    for at in range(requests_of(second, first)):
        database = mongomock.MongoClient().lume
        over(database).record(first)
        with pytest.raises(Died):
            over(Watched(database, at, how)).record(second)
        storage = over(database)
        storage.record(second)
        assert content(storage) == wanted, at
        # What came before it counted stays in the journal for a day.
        assert leftovers(database)[1:] == (0, 0)


@pytest.mark.parametrize("seed", range(2))
def test_what_died_halfway_is_finished_by_the_next_that_looks(seed):
    """Once it counted, a unit of work that died is whole when another one reads."""
    first, second = histories(seed)
    before, after = expected(first), expected(first, second)
    outcomes = set()
    for at in range(requests_of(second, first)):
        database = mongomock.MongoClient().lume
        over(database).record(first)
        with pytest.raises(Died):
            over(Watched(database, at, die_halfway)).record(second)
        found = content(over(database))
        whole = found == after
        assert whole or _known_of(found) <= _known_of(after)
        if not any(found[0][kind] != before[0][kind] for kind in Kind):
            assert found == before
        outcomes.add("after" if whole else "before" if found == before else "parts")
    assert {"before", "after"} <= outcomes


def _known_of(found):
    return {change.id for changes in found[1].values() for change in changes}


@pytest.mark.parametrize("seed", range(2))
def test_a_recorder_that_was_held_up_overwrites_nothing(seed):
    """Another one records meanwhile, at whichever request: the rows are right."""
    before, first, second = histories(seed, 3)
    wanted = expected(before, first, second)

    def overtake(watched, collection, name, args):
        over(watched.database).record(second)

    for at in range(requests_of(first, before, READS | WRITES)):
        database = mongomock.MongoClient().lume
        over(database).record(before)
        over(Watched(database, at, overtake, READS | WRITES)).record(first)
        assert content(over(database)) == wanted, at
        assert leftovers(database) == (0, 0, 0), at


def test_runs_that_were_removed_meanwhile_do_not_come_back_in_parts():
    """A run that is removed while it is recorded is there as a whole, or not at all."""
    batch = History(1).whole()
    runs = batch.run_ids()

    def remove(watched, collection, name, args):
        over(watched.database).remove(runs)

    empty = expected()
    outcomes = []
    for at in range(requests_of(batch, History(2).whole())):
        database = mongomock.MongoClient().lume
        over(Watched(database, at, remove)).record(batch)
        found = content(over(database))
        outcomes.append(found == empty)
        assert outcomes[-1] or found == expected(batch), at
        assert leftovers(database) == (0, 0, 0), at
    assert True in outcomes
    assert False in outcomes


def test_removing_may_die_at_any_write():
    """A removal that broke off is finished by the next one to look."""
    batch, other = History(1).whole(), History(2).whole()
    counted = Watched(mongomock.MongoClient().lume, -1, None)
    over(counted).record(batch)
    counted.count = 0
    over(counted).remove(batch.run_ids())
    for at in range(counted.count):
        database = mongomock.MongoClient().lume
        storage = over(database)
        storage.record(batch)
        storage.record(other)
        with pytest.raises(Died):
            over(Watched(database, at, die)).remove(batch.run_ids())
        again = over(database)
        again.remove(batch.run_ids())
        assert content(again) == expected(other)
        assert leftovers(database) == (0, 0, 0)


def test_work_that_read_what_another_changed_runs_again(database):
    """An error of work that saw no single moment is not reported: it runs again."""
    storage, batch = over(database), History(3).whole()
    runs = batch.run_ids()
    calls = []

    def work(session):
        session.lock(runs)
        calls.append(1)
        if len(calls) == 1:
            storage.record(batch)
            raise KeyError("a row that is not there yet")
        return len(session.get(Kind.EXECUTION, runs))

    assert storage.transaction(work) == 1
    assert len(calls) == 2


def test_an_error_of_the_work_itself_is_raised_and_nothing_is_kept(database):
    """Work that fails by itself keeps nothing."""
    storage, batch = over(database), History(3).whole()

    def work(session):
        session.add_history(batch.changes)
        raise InvalidInputError("no")

    with pytest.raises(InvalidInputError, match="no"):
        storage.transaction(work)
    assert storage.count_states() == 0


def test_changes_count_as_new_for_who_recorded_them(database):
    """Of a batch that had to begin again, each change is new exactly once."""
    batch = _joined([*History(4).batches, *History(5).batches])
    part = History(4).batches[0]
    found = []

    def interfere(watched, collection, name, args):
        if not found:
            found.append(over(watched.database).record(part))

    told = over(Watched(database, 1, interfere)).record(batch)
    assert told + sum(found) == len({change.id for change in batch.changes})


def test_the_digest_counts_as_the_reference_does(database):
    """Runs, successes, failures, last start and average are those of the reference."""
    storage, reference = over(database), MemoryPipelineResultsStorage()
    for seed in range(12):
        for each in (storage, reference):
            each.record(History(seed).whole())
    removed = History(3).whole().run_ids()
    for each in (storage, reference):
        each.remove(removed)
    found, wanted = storage.get_pipeline_digest(), reference.get_pipeline_digest()
    assert found.keys() == wanted.keys()
    for name, item in wanted.items():
        assert found[name].as_json() == {
            **item.as_json(),
            "average_runtime": pytest.approx(item.average_runtime),
        }


def test_a_database_or_a_uri_but_not_both():
    """Neither, both, or a name alone are refused, and say what is needed."""
    for arguments in (
        ((), {}),
        (("lume",), {}),
        ((lambda: None,), {"uri": "mongodb://h/x"}),
        ((3,), {}),
    ):
        with pytest.raises(ConfigurationError, match="takes either a database"):
            MongoPipelineResultsStorage(*arguments[0], **arguments[1])


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"uri": "mongodb://u:secret@h/runs"}, "mongodb://h:27017/runs"),
        ({"uri": "mongodb://h"}, "mongodb://h:27017/lume"),
        ({"uri": "mongodb://h/runs", "database": "other"}, "mongodb://h:27017/other"),
    ],
)
def test_a_uri_names_the_database(arguments, where):
    """The database is that of the argument, else of the URI, else `lume`."""
    assert MongoPipelineResultsStorage(**arguments).where == where


def test_a_context_without_mongodb_is_refused():
    """The error says which field of the Block is missing."""
    context = SimpleNamespace(services=SimpleNamespace(results_mongodb=None))
    with pytest.raises(ConfigurationError, match="'results_mongodb'"):
        MongoPipelineResultsStorage.for_context(context)


def test_a_context_gives_its_database(database):
    """The database is asked for at each operation, as after a fork it is another."""
    asked = []
    credentials = SimpleNamespace(get_database=lambda: asked.append(1) or database)
    context = SimpleNamespace(services=SimpleNamespace(results_mongodb=credentials))
    storage = WatchedStorage.for_context(context)
    assert asked == []
    assert storage.count_states() == 0
    assert asked


def test_values_of_a_condition_cannot_be_operators(database):
    """A dictionary as a value is refused, however deep."""
    storage = over(database)
    for value in ({"$ne": None}, [{"$gt": ""}]):
        with pytest.raises(InvalidInputError, match="cannot be"):
            storage.find(Kind.EXECUTION, {"status": value})
