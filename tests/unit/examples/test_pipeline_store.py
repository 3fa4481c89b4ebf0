"""The storage of pipeline results of the documentation keeps the whole contract."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefect_lume.errors import StorageError
from prefect_lume.pipelines import helpers
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage
from prefect_lume.pipelines.rows import Kind
from prefect_lume.testing import PipelineStorageContract
from prefect_lume.testing.pipelines_generated import History

ROOT = Path(__file__).parents[3]
FILE = ROOT / "examples" / "pipeline_store" / "pipeline_store.py"
PAGE = ROOT / "docs" / "pipeline-storage.md"

CHILD = """
import sys
from pipeline_store import FilePipelineStorage
from prefect_lume.testing.pipelines_generated import History

storage = FilePipelineStorage(sys.argv[1])
print("ready", flush=True)
number = 0
while True:
    for seed in range(4):
        for batch in History(seed).rearranged(number):
            storage.record(batch)
    number += 1
"""


def load_pipeline_store():
    """Return the example's module, which is no part of any package."""
    spec = importlib.util.spec_from_file_location("pipeline_store", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["pipeline_store"] = module
    spec.loader.exec_module(module)
    return module


pipeline_store = load_pipeline_store()


class TestFilePipelineStorage(PipelineStorageContract):
    """Every test of the published suite, none left out."""

    @pytest.fixture
    def storage(self, tmp_path):
        """The example's storage, in an empty folder."""
        return pipeline_store.FilePipelineStorage(tmp_path / "runs")


def test_the_storage_is_short():
    """The whole storage, blank lines and imports included, is under 250 lines."""
    assert len(FILE.read_text().splitlines()) < 250


def test_the_page_shows_the_files_as_they_are():
    """Each file that the page names is the code block that follows, to the letter."""
    shown = re.findall(
        r"<!--- file: (\S+) -->\n\n(?:<!--- skip: next -->\n\n)?```python\n(.*?)```",
        PAGE.read_text(),
        re.DOTALL,
    )
    assert [name for name, _ in shown] == [
        "examples/pipeline_store/pipeline_store.py",
        "examples/pipeline_store/test_pipeline_store.py",
    ]
    for name, text in shown:
        assert text == (ROOT / name).read_text(), name


def test_the_suite_runs_as_the_page_says():
    """`pytest` in the example's folder runs the contract suite and passes."""
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
    assert int(re.search(r"(\d+) passed", run.stdout).group(1)) >= 50


def test_it_is_named_in_settings_by_its_path(tmp_path, monkeypatch):
    """The helpers use it once the setting names its class and its arguments."""
    named = ["pipeline_store.FilePipelineStorage", {"directory": str(tmp_path / "r")}]
    monkeypatch.setenv("PREFECT_LUME_PIPELINES_RESULTS_STORAGE", json.dumps(named))
    helpers.reset_pipeline_storage()
    try:
        storage = helpers.get_pipeline_storage()
    finally:
        monkeypatch.undo()
        helpers.reset_pipeline_storage()
    assert type(storage) is pipeline_store.FilePipelineStorage
    assert storage.root == tmp_path / "r"


def content(storage):
    """Return all rows and changes of a storage."""
    rows = {kind: storage.find(kind) for kind in Kind}
    ids = [row.id for found in rows.values() for row in found]
    return rows, storage.get_history(ids)


def test_recorders_may_be_killed(tmp_path):
    """Two recorders are killed again and again: recorded once more, all is right."""
    environment = {**os.environ, "PYTHONPATH": str(FILE.parent)}
    for number in range(5):
        children = [
            subprocess.Popen(
                [sys.executable, "-c", CHILD, tmp_path],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for child in children:
            assert child.stdout.readline() == "ready\n"
        time.sleep(0.05 * number)
        for child in children:
            child.send_signal(signal.SIGKILL)
            child.communicate()
    storage = pipeline_store.FilePipelineStorage(tmp_path)
    reference = MemoryPipelineResultsStorage()
    for seed in range(4):
        storage.record(History(seed).whole())
        reference.record(History(seed).whole())
    assert content(storage) == content(reference)


def test_what_is_damaged_is_said_so(tmp_path):
    """A file that is no JSON raises, with the file's name."""
    storage = pipeline_store.FilePipelineStorage(tmp_path)
    storage.record(History(0).whole())
    file = storage.file_of(History(0).run_id)
    file.write_text("{")
    with pytest.raises(StorageError, match=file.name):
        storage.find(Kind.EXECUTION)
