"""A storage named in settings is found, or the message says what was tried."""

from __future__ import annotations

import pytest

from prefect_lume.errors import ConfigurationError, StorageError
from prefect_lume.pipelines.configured import ALIASES, StorageChoice, make_storage
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage

SECRET = "s3cret-word"
SOURCE = """
from prefect_lume.errors import StorageError
from prefect_lume.pipelines.memory import MemoryPipelineResultsStorage

class Plain(MemoryPipelineResultsStorage):
    for_context = None
    def __init__(self, url="", *, level=1):
        super().__init__()
        self.url, self.level = url, level

class Wired(MemoryPipelineResultsStorage):
    @classmethod
    def for_context(cls, context, **kwargs):
        made = cls()
        made.context, made.kwargs = context, kwargs
        return made

class Fussy(Plain):
    def __init__(self, url=""):
        raise ValueError(f"cannot parse {url}")

class Offline(Plain):
    def __init__(self, url=""):
        raise StorageError("the database is down")

class Other:
    pass

not_a_class = 3
"""


@pytest.fixture(autouse=True)
def own_module(tmp_path, monkeypatch):
    """A module that can be imported, with storages good and bad."""
    (tmp_path / "own_storages.py").write_text(SOURCE)
    (tmp_path / "own_broken.py").write_text("raise RuntimeError('not today')")
    (tmp_path / "own_needs.py").write_text("import no_such_package_at_all")
    monkeypatch.syspath_prepend(tmp_path)


def refused(value, source="the test"):
    """Return the message with which a choice is refused."""
    with pytest.raises(ConfigurationError) as caught:
        make_storage(StorageChoice.of(value, source), "context")
    assert SECRET not in str(caught.value)
    return str(caught.value)


def test_a_path_with_arguments_makes_the_storage():
    """A class is made with its keyword arguments, by a dot or a colon."""
    for path in ("own_storages.Plain", "own_storages:Plain"):
        made = make_storage(StorageChoice.of([path, {"url": "u", "level": 2}]))
        assert (type(made).__name__, made.url, made.level) == ("Plain", "u", 2)
        assert make_storage(StorageChoice.of(path)).level == 1


def test_a_class_that_wants_the_context_gets_it():
    """`for_context` is called with the context and the arguments."""
    made = make_storage(StorageChoice.of(("own_storages.Wired", {"a": 1})), "context")
    assert (made.context, made.kwargs) == ("context", {"a": 1})


def test_memory_is_one_storage_for_each_process():
    """Whoever names the storage in memory gets the same one."""
    first = make_storage(StorageChoice.of("memory"))
    assert make_storage(StorageChoice.of(ALIASES["memory"])) is first
    assert first is not MemoryPipelineResultsStorage()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("memry", "Did you mean 'memory'?"),
        ("own_storage.Plain", "no 'own_storage' on the Python path"),
        ("prefect_lume.pipelins.X", "no 'pipelins' in the package 'prefect_lume'"),
        ("own_storages.Plian", "Did you mean 'Plain'? Storages in it: 'Fussy'"),
        ("own_storages.Other", "does not extend prefect_lume.pipelines.base"),
        ("own_storages.not_a_class", "is a int that does not extend"),
        ("own_broken.X", "importing it raised RuntimeError: not today"),
        ("own_needs.X", "needs 'no_such_package_at_all'"),
        ("prefect_lume.pipelines.base.PipelineStorage", "abstract"),
        (
            ["own_storages.Plain", {"ulr": SECRET}],
            "the keyword arguments 'level', 'url'",
        ),
        (["memory", {"url": SECRET}], "takes no keyword arguments"),
        (["own_storages.Fussy", {"url": SECRET}], "raised ValueError in"),
        ("own_storages.Fussy", "ValueError: cannot parse"),
        (f"mysql://lume:{SECRET}@db/x", "is not a Python path"),
        ("", "an empty text"),
        ([], "an empty list"),
        (3, "a int"),
        (["memory"], "a list of 1 (str)"),
        (["memory", SECRET], "a list of 2 (str, str)"),
        (["memory", {}, SECRET], "a list of 3"),
        ([SECRET, {1: 2}], "a list of 2 (str, dict)"),
    ],
)
def test_a_wrong_choice_says_what_was_tried(value, said):
    """The message names what was found, what was not, and where it was said."""
    message = refused(value)
    assert said in message
    assert "the test" in message


def test_no_secret_is_in_a_choice_that_is_shown():
    """Arguments, which may hold a password, are not in the repr."""
    assert SECRET not in repr(StorageChoice.of(["memory", {"url": SECRET}]))


def test_an_argument_is_not_in_the_chain_of_errors():
    """What an error of the class quotes does not come along with ours."""
    with pytest.raises(ConfigurationError) as caught:
        make_storage(StorageChoice.of(["own_storages.Fussy", {"url": SECRET}]))
    assert caught.value.__suppress_context__


def test_errors_of_the_storage_itself_are_told_as_they_are():
    """A database that is down is no wrong setting."""
    with pytest.raises(StorageError, match="is down"):
        make_storage(StorageChoice.of(["own_storages.Offline", {"url": "u"}]))
