"""The storage Block: files in the results database, as Prefect calls it."""

import asyncio
import filecmp
import hashlib
import inspect
import os
import subprocess
import sys
import threading

import pytest
from prefect.blocks.core import Block
from prefect.filesystems import WritableFileSystem
from prefect.results import ResultStore
from prefect.serializers import JSONSerializer

from prefect_lume import LumeServices
from prefect_lume.config import configure, open_context
from prefect_lume.errors import (
    IntegrityError,
    InvalidInputError,
    NotFoundError,
)
from prefect_lume.filesystems import LumeResultsStorage
from prefect_lume.results.stored_files import (
    FileMissingError,
    StoredFile,
    StoredFiles,
    normal_path,
)

LARGE = bytes(range(256)) * 1024


@pytest.fixture(autouse=True)
def services(tmp_path):
    """An embedded database of the test's own, for calls that name no services."""
    configure(LumeServices(home=str(tmp_path / "lume")))
    yield open_context().results_db_service()
    configure()


@pytest.fixture
def storage():
    """The Block, as it is without any field filled in."""
    return LumeResultsStorage()


def test_it_is_a_filesystem_that_prefect_can_write(storage):
    """Prefect takes it for a result storage, and each method has both forms."""
    assert isinstance(storage, WritableFileSystem)
    assert LumeResultsStorage.get_block_capabilities() >= {"read-path", "write-path"}
    for name in ("read_path", "write_path", "upload_from_path", "download_to_path"):
        assert inspect.iscoroutinefunction(getattr(storage, f"a{name}"))
        assert getattr(storage, name).aio is getattr(LumeResultsStorage, f"a{name}")


@pytest.mark.parametrize("content", [b"", b"a", LARGE, LARGE * 100], ids=len)
def test_content_comes_back(storage, content):
    """Content of any size is read as it was written, as bytes."""
    assert storage.write_path("a/b", content) == "a/b"
    found = storage.read_path("a/b")
    assert type(found) is bytes
    assert found == content


def test_writing_again_replaces(storage, services):
    """A path holds what was written last, and is one document."""
    for content in (b"first", LARGE, b"last"):
        storage.write_path("a", content)
        assert storage.read_path("a") == content
    assert services.count("prefect-results") == 1


def test_equal_content_is_stored_once(storage, services):
    """Two paths with one content share a blob; removing both frees it."""
    for path in ("a", "b"):
        storage.write_path(path, LARGE)
    (digest,) = set(services.db_service.held_blobs("prefect-results"))
    assert digest == hashlib.sha256(LARGE).hexdigest()


def test_both_forms_work_where_prefect_uses_them(storage):
    """`_sync=True` in a loop, `await`, and a plain call all give the content."""

    async def both():
        storage.write_path("sync", b"1", _sync=True)
        await storage.write_path("dispatched", b"2")
        await storage.awrite_path("async", b"3")
        return [
            storage.read_path("sync", _sync=True),
            await storage.read_path("dispatched"),
            await storage.aread_path("async"),
        ]

    assert asyncio.run(both()) == [b"1", b"2", b"3"]
    assert storage.read_path("async") == b"3"


@pytest.mark.parametrize("name", ["read", "write", "upload", "download"])
def test_the_loop_goes_on_meanwhile(storage, monkeypatch, tmp_path, name):
    """The asynchronous methods work in a thread: other coroutines are not held up."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(LARGE)
    storage.write_path("a", LARGE)
    work = getattr(StoredFiles, name)
    begun, ticked = threading.Event(), threading.Event()

    def held(*arguments, **options):
        begun.set()
        # It ends only if a coroutine of the same loop goes on.
        assert ticked.wait(60), "the loop stood still"
        return work(*arguments, **options)

    monkeypatch.setattr(StoredFiles, name, held)

    async def meanwhile():
        calls = {
            "read": lambda: storage.aread_path("a"),
            "write": lambda: storage.awrite_path("b", LARGE),
            "upload": lambda: storage.aupload_from_path(source, "b"),
            "download": lambda: storage.adownload_to_path("a", target),
        }
        task = asyncio.create_task(calls[name]())
        while not begun.is_set() and not task.done():
            await asyncio.sleep(0.001)
        ticked.set()
        return await task

    found = asyncio.run(meanwhile())
    assert begun.is_set()
    if name == "read":
        assert found == LARGE
    elif name == "download":
        assert target.read_bytes() == LARGE
    else:
        assert storage.read_path("b") == LARGE


def test_what_is_not_there_raises_what_prefect_expects(storage):
    """A missing path is a ValueError, as of Prefect's own storage, and names itself."""
    storage.write_path("other", b"")
    with pytest.raises(ValueError, match="nothing/here"):
        storage.read_path("nothing/here")
    with pytest.raises(FileMissingError, match="prefect-results"):
        storage.read_path("nothing/here")
    with pytest.raises(NotFoundError):
        LumeResultsStorage(project_name="new").read_path("a")


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("a/b", "a/b"),
        ("/a//b/", "a/b"),
        ("./a/./b", "a/b"),
        ("a b/é🌌/..c", "a b/é🌌/..c"),
        ("C:\\results\\a", "C:\\results\\a"),
        ("x" * 1024, "x" * 1024),
    ],
)
def test_paths_have_one_form(storage, given, stored):
    """A path and its normal form lead to the same file."""
    assert normal_path(given) == stored
    assert storage.write_path(given, b"1") == stored
    assert storage.read_path(stored) == storage.read_path(f"/{given}") == b"1"


@pytest.mark.parametrize(
    "path",
    ["", "/", ".", "..", "../a", "a/../b", "a/..", "x" * 1025, "a\0b", "\ud800", 1],
)
def test_other_paths_are_refused(storage, path):
    """What is no path inside the storage is refused, by reading and by writing."""
    with pytest.raises(InvalidInputError):
        storage.write_path(path, b"")
    with pytest.raises(InvalidInputError):
        storage.read_path(path)


def test_files_are_results(storage, services):
    """What was written is found by the results service, as a File."""
    storage.write_path("a/b", b"12")
    file = services.find_one("prefect-results", {"inputs.path": "a/b"})
    assert type(file) is StoredFile
    assert file.outputs == {"content": b"12"}
    assert (file.flow_run_id, file.task_run_id) == (None, None)
    assert services.delete("prefect-results", {"inputs.path": {"$regex": "^a/"}}) == 1
    with pytest.raises(FileMissingError):
        storage.read_path("a/b")


def test_a_changed_document_is_not_returned(storage, services):
    """A document that was stored under another path's key is an integrity error."""
    from prefect_lume.results.documents import to_document

    file = StoredFile(
        project_name="prefect-results",
        inputs={"path": "b"},
        outputs={"content": b"wrong"},
    )
    encoded = to_document(file)
    wanted = StoredFile(project_name="prefect-results", inputs={"path": "a"})
    encoded.tree["_id"] = wanted.unique_hash
    services.db_service.insert("prefect-results", encoded)
    with pytest.raises(IntegrityError):
        storage.read_path("a")


@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_files_go_in_and_out(storage, tmp_path, size):
    """A file of this machine is stored and written back, whatever its size."""
    source = tmp_path / "source"
    source.write_bytes(bytes(range(250)) * (size // 250))
    assert storage.upload_from_path(source, "/beams/1") == "beams/1"
    assert storage.read_path("beams/1") == source.read_bytes()
    target = storage.download_to_path("beams/1", tmp_path / "new" / "folder" / "file")
    assert target.read_bytes() == source.read_bytes()
    assert [path.name for path in target.parent.iterdir()] == ["file"]


def test_written_content_can_be_downloaded(storage, tmp_path):
    """Small and large content that was written comes out as a file."""
    for content in (b"small", LARGE):
        storage.write_path("a", content)
        target = storage.download_to_path("a", tmp_path / "file")
        assert target.read_bytes() == content


def test_files_go_in_and_out_asynchronously(storage, tmp_path):
    """The asynchronous twins do the same."""
    source = tmp_path / "source"
    source.write_bytes(LARGE)

    async def both():
        await storage.aupload_from_path(source, "a")
        return await storage.adownload_to_path("a", tmp_path / "target")

    assert asyncio.run(both()).read_bytes() == LARGE


MEMORY = """
import resource, sys
from pathlib import Path
from prefect_lume.filesystems import LumeResultsStorage

folder, storage = Path(sys.argv[1]), LumeResultsStorage()
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
for name in ("small", "large"):
    storage.upload_from_path(folder / name, name)
    storage.download_to_path(name, folder / "copy")
    print(peak())
"""


def test_a_large_file_takes_little_memory(tmp_path):
    """Up and down, 128 MB take less than 64 MB more than a small file does."""
    (tmp_path / "small").write_bytes(LARGE)
    with (tmp_path / "large").open("wb") as file:
        for _ in range(128):
            file.write(os.urandom(1 << 20))
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path],
        env={**os.environ, "PREFECT_LUME_HOME": str(tmp_path / "lume")},
        capture_output=True,
        text=True,
        check=True,
    )
    before, after = map(float, done.stdout.split())
    assert after - before < 64
    assert filecmp.cmp(tmp_path / "large", tmp_path / "copy", shallow=False)


def test_a_failed_download_leaves_what_was_there(storage, tmp_path):
    """A file that is missing in the storage does not touch the one on disk."""
    target = tmp_path / "target"
    target.write_bytes(b"before")
    with pytest.raises(FileMissingError):
        storage.download_to_path("nothing", target)
    with pytest.raises(NotFoundError, match="file"):
        storage.upload_from_path(tmp_path / "none", "a")
    assert target.read_bytes() == b"before"


def test_a_block_that_was_never_saved_serves_a_result_store(storage):
    """Prefect's result store writes, finds and reads with the unsaved Block."""
    store = ResultStore(result_storage=storage, serializer=JSONSerializer())
    store.write({"a": 1}, key="/some//key")
    fresh = ResultStore(result_storage=storage, serializer=JSONSerializer())
    assert fresh.exists("some/key")
    assert not fresh.exists("another/key")
    assert fresh.read("some/key").result == {"a": 1}

    async def asynchronously():
        await store.awrite([1], key="other")
        again = ResultStore(result_storage=storage, serializer=JSONSerializer())
        assert await again.aexists("other")
        return (await again.aread("other")).result

    assert asyncio.run(asynchronously()) == [1]


def test_an_empty_project_is_refused():
    """The collection needs a name."""
    with pytest.raises(ValueError, match="project_name"):
        LumeResultsStorage(project_name="")


def test_prefect_finds_the_block_by_its_slug():
    """The collection that Prefect loads in every process knows the Block."""
    found = Block.get_block_class_from_key("lume-results-storage")
    assert found is LumeResultsStorage
