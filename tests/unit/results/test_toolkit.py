"""What a results database of one's own is made with."""

import os
import subprocess
import sys

import pytest

from prefect_lume.errors import ConflictError, QueryError, StorageError
from prefect_lume.results.stores.indices import DeclaredIndex
from prefect_lume.results.stores.toolkit import (
    check_unique,
    renew,
    scan,
    write_file,
)
from prefect_lume.testing.corpus import corpus


@pytest.fixture
def trees():
    """Documents of all kinds by their key."""
    return {document.tree["_id"]: document.tree for document in corpus()}


def test_a_removed_document_is_left_out(trees):
    """What goes away between listing and reading is not found, nor an error."""
    from prefect_lume.results.stores.base import missing

    gone = next(iter(trees))

    def get(key):
        if key == gone:
            raise missing("contract", key)
        return trees[key]

    found = [tree["_id"] for tree in scan(trees.values, get)]
    assert sorted(found) == sorted(set(trees) - {gone})


def test_documents_are_read_one_by_one(trees):
    """Only the page that is asked for is read again, and only as it is consumed."""
    read = []

    def get(key):
        read.append(key)
        return trees[key]

    found = scan(trees.values, get, skip=2, limit=5)
    assert read == []
    next(found)
    assert len(read) == 1
    assert len(list(found)) == 4
    assert len(read) == 5


@pytest.mark.parametrize(
    "wrong",
    [{"skip": -1}, {"limit": -1}, {"query": {"$where": "1"}}, {"projection": [""]}],
    ids=str,
)
def test_wrong_questions_are_refused_at_once(trees, wrong):
    """The error comes with the call, not with the first document."""
    with pytest.raises(QueryError):
        scan(trees.values, trees.__getitem__, **wrong)


def shot(key, number, **more):
    """Return a document of a type with a unique number."""
    return {"_id": key, "result_type": "Shot", "n": number, **more}


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        (1, 1, True),
        (1, 1.0, True),
        (1, "1", False),
        (1, True, False),
        (None, None, True),
        ([1, 2], 2, True),
        ([1, 2], [3], False),
        ([], None, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
    ],
    ids=str,
)
def test_keys_are_equal_as_in_mongodb(first, second, conflict):
    """Numbers by value, lists by element, kinds apart, objects in any order."""
    index = DeclaredIndex("Shot", ("n",), unique=True)
    pair = [shot("a", first), shot("b", second)]
    if conflict:
        with pytest.raises(ConflictError, match="unique index on n of 'Shot'"):
            check_unique(index, pair)
    else:
        check_unique(index, pair)


def test_an_index_concerns_its_documents_only():
    """Other types, and what a partial index leaves out, are in nobody's way."""
    index = DeclaredIndex("Shot", ("n",), unique=True, sparse=True)
    others = [shot("a", 1), shot("b", 1, result_type="Scan")]
    without = [{"_id": key, "result_type": "Shot"} for key in "cd"]
    check_unique(index, [*others, *without])


def test_a_document_is_not_in_its_own_way():
    """A list that holds a value twice, or the document's own older self, is fine."""
    index = DeclaredIndex("Shot", ("n",), unique=True)
    check_unique(index, [shot("a", [1, 1]), shot("a", 1)])


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    """A source that breaks off leaves what was there, and no other file."""
    path = tmp_path / "new" / "file"
    assert write_file(path, [b"old ", bytearray(b"content")]) == path

    def pieces():
        yield b"new"
        raise OSError("broken off")

    with pytest.raises(OSError, match="broken off"):
        write_file(path, pieces())
    assert path.read_bytes() == b"old content"
    assert list(path.parent.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_a_storage_error(tmp_path):
    """The message names the file that cannot be written."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"file/below cannot be written: "):
        write_file(tmp_path / "file" / "below", [b""])


FULL = """
import resource, signal, sys
from prefect_lume.errors import StorageError
from prefect_lume.results.stores.toolkit import write_file

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
try:
    write_file(sys.argv[1], [bytes(1 << 20)] * 3)
except StorageError as error:
    print(error)
"""


def test_a_disk_that_is_full_leaves_nothing(tmp_path):
    """Where the system writes no further, the file does not appear."""
    path = tmp_path / "file"
    done = subprocess.run(
        [sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True
    )
    assert "file cannot be written: File too large" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_renewing_says_whether_the_file_is_there(tmp_path):
    """An old file is young afterwards; one that is missing does not appear."""
    path = tmp_path / "file"
    assert renew(path) is False
    assert not path.exists()
    path.write_bytes(b"")
    os.utime(path, (0, 0))
    assert renew(path) is True
    assert path.stat().st_mtime > 1_000_000
