"""The third results database of the documentation keeps the whole contract."""

import importlib.util
import multiprocessing
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prefect_lume.errors import (
    ConflictError,
    IntegrityError,
    NotFoundError,
    StorageError,
)
from prefect_lume.results import Index, Result, ResultsService
from prefect_lume.testing import DBServiceContract, make_document

ROOT = Path(__file__).parents[3]
FILE = ROOT / "examples" / "file_store" / "file_store.py"
PAGE = ROOT / "docs" / "third-store.md"


def load_file_store():
    """Return the example's module, which is no part of any package."""
    spec = importlib.util.spec_from_file_location("file_store", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


file_store = load_file_store()


def open_store(directory):
    """Return a service over a directory."""
    return file_store.FileDBService(file_store.FileDBServiceConfig(directory=directory))


class TestFileDBService(DBServiceContract):
    """Every test of the published suite, none left out."""

    @pytest.fixture
    def db_service(self, tmp_path):
        """The example's store, in an empty directory."""
        with open_store(tmp_path / "results") as service:
            yield service


def test_the_store_is_short():
    """The whole store, blank lines and imports included, is under 120 lines."""
    assert len(FILE.read_text().splitlines()) < 120


def test_the_page_shows_the_files_as_they_are():
    """Each file that the page names is the code block that follows, to the letter."""
    shown = re.findall(
        r"<!--- file: (\S+) -->\n\n(?:<!--- skip: next -->\n\n)?```python\n(.*?)```",
        PAGE.read_text(),
        re.DOTALL,
    )
    assert [name for name, _ in shown] == [
        "examples/file_store/file_store.py",
        "examples/file_store/test_file_store.py",
    ]
    for name, text in shown:
        assert text == (ROOT / name).read_text(), name


def test_the_suite_runs_as_the_page_says():
    """`pytest` in the example's directory runs the contract suite and passes."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, "--rootdir", FILE.parent, "-c", "/dev/null", FILE.parent],
        cwd=FILE.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert run.returncode == 0, run.stdout[-2000:]
    assert int(re.search(r"(\d+) passed", run.stdout).group(1)) >= 25


def insert_all(directory, barrier, answers):
    """Insert ten documents that other processes insert as well."""
    service = open_store(directory)
    barrier.wait()
    for n in range(10):
        document = make_document(inputs={"n": n})
        answers.put(service.insert("contract", document))


def test_of_many_processes_one_wins(tmp_path):
    """Four processes insert the same documents: each is stored by exactly one."""
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.Queue()
    processes = [
        context.Process(target=insert_all, args=(tmp_path, barrier, answers))
        for _ in range(4)
    ]
    for process in processes:
        process.start()
    found = [answers.get(timeout=60) for _ in range(40)]
    for process in processes:
        process.join()
    assert sorted(found) == [False] * 30 + [True] * 10
    assert open_store(tmp_path).count("contract") == 10


def test_the_longest_name_of_a_project_fits(tmp_path):
    """A project's name of 190 bytes is no problem for the disk."""
    with open_store(tmp_path) as service:
        assert service.insert("é" * 95, make_document("é" * 95))
        assert service.collections() == ["é" * 95]


class Shot(Result):
    """A document type with a unique number."""

    indices = (Index(("inputs.number",), unique=True),)


def test_the_results_service_works_over_it(tmp_path):
    """Large values, unique fields and a second process' view, through the service."""
    results = ResultsService(open_store(tmp_path), model_docs={"Shot": Shot})
    content = bytes(range(256)) * 1024
    shot = Shot(project_name="p", inputs={"number": 1}, outputs={"data": content})
    reference = results.store(shot)
    with pytest.raises(ConflictError, match=r"inputs\.number"):
        results.store(Shot(project_name="p", inputs={"number": 1, "again": True}))
    other = ResultsService(open_store(tmp_path), model_docs={"Shot": Shot})
    assert other.load(reference).outputs["data"] == content
    assert len(list((tmp_path / "blob").iterdir())) == 1
    with pytest.raises(ConflictError, match=r"inputs\.number"):
        other.store(Shot(project_name="p", inputs={"number": 1, "other": True}))


def test_what_is_damaged_is_refused(tmp_path):
    """A blob with other bytes, and a document that is no JSON, raise by name."""
    service = open_store(tmp_path)
    results = ResultsService(service)
    result = Result(project_name="p", outputs={"data": b"x" * 100_000})
    reference = results.store(result)
    (blob,) = (tmp_path / "blob").iterdir()
    blob.write_bytes(b"y" * 100_000)
    with pytest.raises(IntegrityError):
        results.load(reference)
    blob.unlink()
    with pytest.raises(NotFoundError, match="blob"):
        results.load(reference)
    (document,) = (tmp_path / "result").glob("*/*")
    document.write_text("{")
    with pytest.raises(StorageError):
        results.load(reference)


def test_a_disk_that_refuses_is_a_storage_error(tmp_path):
    """What the operating system says arrives as a StorageError with the path."""
    service = open_store(tmp_path)
    (tmp_path / "result").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match="result"):
        service.insert("contract", make_document())
