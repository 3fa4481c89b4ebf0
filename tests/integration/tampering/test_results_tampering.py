"""What somebody changed in the database: an error on every way to it, nothing run."""

from __future__ import annotations

import base64
import copy
import functools
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from prefect_lume.cli._main import cli
from prefect_lume.errors import DecodingError, IntegrityError, LumeError, NotFoundError
from prefect_lume.results import Result, ResultsService
from prefect_lume.results.stored import checksum
from prefect_lume.results.stores import SQLDBService

Tree = dict[str, Any]
PROJECT = "tampered"
NOTICED = (IntegrityError, DecodingError)


def show(key: str) -> str:
    outcome = CliRunner().invoke(cli, ["--debug", "results", "show", PROJECT, key])
    if outcome.exception is not None:
        raise outcome.exception
    return outcome.stdout


def doors(
    service: ResultsService, result: Result, command_line: bool = True
) -> dict[str, Callable[[], Any]]:
    """Return the ways to read one result, by name."""
    key = result.unique_hash
    one = {"unique_hash": key}
    where = result.reference("inputs", ["n"])
    return {
        "load": lambda: service.load(result.reference()),
        "load lazy": lambda: service.load(result.reference(), lazy=True),
        "load_value": lambda: service.load_value(where),
        "find": lambda: list(service.find(PROJECT, one)),
        "find all": lambda: list(service.find(PROJECT)),
        "find by run": lambda: list(
            service.find(PROJECT, {"flow_run_id": result.flow_run_id})
        ),
        "find_one": lambda: service.find_one(PROJECT, one),
        "find_by_unique_field": lambda: service.find_by_unique_field(
            PROJECT, "unique_hash", key
        ),
        "load_dataframe": lambda: service.load_dataframe(PROJECT, one),
        **({"results show": lambda: show(key)} if command_line else {}),
    }


def right(answer: Any, result: Result, everything: list[Result]) -> bool:
    """Tell whether an answer is nothing but what was stored."""
    if isinstance(answer, Result):
        return answer.inputs == result.inputs and answer.type_name == "Generic"
    if isinstance(answer, list):
        stored = {one.unique_hash: one for one in everything}
        return all(
            one.unique_hash in stored and right(one, stored[one.unique_hash], [])
            for one in answer
        )
    if isinstance(answer, str):
        return f"note {result.inputs['n']}" in answer
    if isinstance(answer, int):
        return answer == result.inputs["n"]
    return answer.empty or list(answer["inputs.n"]) == [result.inputs["n"]]


# --- documents -------------------------------------------------------------------


def changed(*path: str | int, to: Any) -> Callable[[Tree, Tree], Tree]:
    """Return the recipe that sets one place of a document."""

    def recipe(tree: Tree, other: Tree) -> Tree:
        place: Any = tree
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to
        return tree

    return recipe


def without(*path: str) -> Callable[[Tree, Tree], Tree]:
    """Return the recipe that removes one key of a document."""

    def recipe(tree: Tree, other: Tree) -> Tree:
        place: Any = tree
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]
        return tree

    return recipe


PICKLE = "gASMC2x1bWVfY2FuYXJ5lIwEZXZpbJSTlIwBeJSFlFKULg=="
RECIPES: dict[str, Callable[[Tree, Tree], Tree]] = {
    "another number": changed("outputs", "sigma", to=9.25),
    "a number of another type": changed("inputs", "n", to=0.0),
    "an item of a list": changed("inputs", "steps", 1, to=5),
    "another text": changed("inputs", "note", to="forged"),
    "another flow run": changed("flow_run_id", to="run-7"),
    "another date": changed("date_modified", to="2001-01-01T00:00:00.000000Z"),
    "another project": changed("project_name", to="other"),
    "another deployment": changed("deployment_id", to=7),
    "a key more": changed("inputs", "extra", to=1),
    "a field more": changed("extra", to=1),
    "no input": without("inputs", "n"),
    "no inputs": without("inputs"),
    "no checksum": without("_checksum"),
    "no format": without("format"),
    "no type": without("result_type"),
    "another _id": changed("_id", to="f" * 64),
    "another's checksum": lambda tree, other: tree | {"_checksum": other["_checksum"]},
    "another's body": lambda tree, other: other | {"_id": tree["_id"]},
    "another registered type": changed("result_type", to="Impact"),
    "an unknown type": changed("result_type", to="os.system"),
    "a newer format": changed("format", to=99),
    "an older format": lambda tree, other: (
        {
            key: item
            for key, item in changed("inputs", "n", to=9)(tree, other).items()
            if key != "_checksum"
        }
        | {"format": 1}
    ),
    "a format that is no number": changed("format", to="2"),
    "another blob": lambda tree, other: changed(
        "outputs", "field", to=other["outputs"]["field"]
    )(tree, other),
    "another dtype": changed("outputs", "field", "dtype", to="<i8"),
    "another shape": changed("outputs", "field", "shape", to=[100_000]),
    "pickled bytes": changed(
        "outputs", "sigma", to={"__lume__": "pickle", "v": 1, "data": PICKLE}
    ),
    "a class to import": changed(
        "outputs",
        "sigma",
        to={"__lume__": "model", "v": 1, "class": "lume_canary.Evil", "value": {}},
    ),
    "a reduction": changed(
        "outputs", "sigma", to={"__reduce__": ["lume_canary.evil", ["x"]]}
    ),
    "a newer codec": changed("outputs", "field", "v", to=99),
    "an operator": changed("inputs", "steps", to={"a": {"$where": "sleep(1000)"}}),
}


#: In MongoDB, what one looks for by is changed itself.
NOT_FOUND = {
    *(("another _id", door) for door in ("load", "load lazy", "load_value", "find")),
    *(("another _id", door) for door in ("find_one", "find_by_unique_field")),
    ("another _id", "load_dataframe"),
    ("another flow run", "find by run"),
    ("another's body", "find by run"),
}


def not_found(read: Callable[[], Any]) -> bool:
    try:
        answer = read()
    except NotFoundError:
        return True
    return len(answer) == 0


#: Each call of the command line takes long: some of them stand for the rest.
ON_THE_COMMAND_LINE = {"another number", "another's body", "an unknown type"}


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that would be noticed if anything imported it."""
    (tmp_path / "lume_canary.py").write_text("evil = Evil = print\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    assert "lume_canary" not in sys.modules


def test_the_canary_would_sing(tmp_path: Path, monkeypatch: Any) -> None:
    """The pickled bytes of these tests do import the canary where pickle is used."""
    (tmp_path / "lume_canary.py").write_text("evil = Evil = print\n")
    monkeypatch.syspath_prepend(tmp_path)
    pickle.loads(base64.b64decode(PICKLE))
    assert sys.modules.pop("lume_canary")


def test_a_changed_document_is_noticed_on_every_way(
    service: ResultsService,
    raw: Any,
    results: list[Result],
    subtests: pytest.Subtests,
    canary: None,
) -> None:
    """Each change raises an integrity or decoding error, and gives no wrong data."""
    result, other = results
    key, in_sql = result.unique_hash, isinstance(service.db_service, SQLDBService)
    originals = [raw.document(one.unique_hash) for one in results]
    for name, recipe in RECIPES.items():
        raw.put(key, recipe(copy.deepcopy(originals[0]), copy.deepcopy(originals[1])))
        for door, read in doors(service, result, name in ON_THE_COMMAND_LINE).items():
            with subtests.test(name, door=door):
                if not in_sql and (name, door) in NOT_FOUND:
                    assert not_found(read)
                    continue
                with pytest.raises(NOTICED):
                    read()
        raw.restore(key, originals[0])
        assert service.load(result.reference()).inputs == result.inputs, name
        assert service.load(other.reference()).inputs == other.inputs, name


def test_swapped_documents_are_never_taken_for_each_other(
    service: ResultsService,
    raw: Any,
    results: list[Result],
    subtests: pytest.Subtests,
) -> None:
    """Two documents that changed places: who asks for one never gets the other."""
    one, other = (raw.document(result.unique_hash) for result in results)
    swap = isinstance(service.db_service, SQLDBService)
    for tree, body in ((one, other), (other, one)):
        raw.put(tree["_id"], body if swap else body | {"_id": tree["_id"]})
    for result in results:
        for door, read in doors(service, result).items():
            with subtests.test(door=door, n=result.inputs["n"]):
                try:
                    answer = read()
                except NOTICED:
                    continue
                assert right(answer, result, results)
        with pytest.raises(IntegrityError):
            service.load(result.reference())


PLAIN = {str, int, float, type(None), type(pd.NA), pd.Timestamp}
HOSTILE: dict[str, Any] = {
    "pickle": {"__lume__": "pickle", "v": 1, "data": PICKLE},
    "bytes": {"__lume__": "bytes", "v": 1, "data": PICKLE},
    "class": {"__lume__": "model", "v": 1, "class": "lume_canary.Evil", "value": {}},
    "enum": {"__lume__": "enum", "v": 1, "type": "lume_canary:Evil", "value": 1},
    "object array": {
        "__lume__": "array",
        "v": 1,
        "dtype": "|O",
        "shape": [1],
        "data": PICKLE,
    },
    "reduce": {"__reduce__": ["lume_canary.evil", ["x"]], "py/object": "os.system"},
    "operator": {"$where": "sleep(1000)"},
    "operator inside": {"a": [{"$function": {"body": "while(1);"}}]},
    "a path": {"__lume__": "file", "v": 1, "path": "../../../etc/passwd"},
    "a newer codec": {"__lume__": "array", "v": 99},
    "nested": functools.reduce(lambda inner, _: {"a": inner}, range(150), 1),
}


def harmless(answer: Any) -> bool:
    """Tell whether an answer holds nothing but plain data in the forged place."""
    if isinstance(answer, Result):
        sigma = answer.outputs["sigma"]
        return type(sigma) in {dict, bytes} and "__lume__" not in sigma
    if isinstance(answer, list):
        return all(harmless(one) for one in answer if one.inputs["n"] == 0)
    if isinstance(answer, int | str):
        return True
    return {type(value) for value in answer.to_numpy().ravel()} <= PLAIN


def test_forged_documents_run_nothing(
    service: ResultsService,
    raw: Any,
    results: list[Result],
    subtests: pytest.Subtests,
    canary: None,
) -> None:
    """With a right checksum too: an error of ours or plain data, nothing imported."""
    result = results[0]
    original = raw.document(result.unique_hash)
    for name, value in HOSTILE.items():
        tree = copy.deepcopy(original)
        tree["outputs"]["sigma"] = value
        shown = {key: item for key, item in tree.items() if key != "_blobs"}
        tree["_checksum"] = checksum(shown)
        raw.put(result.unique_hash, tree)
        for door, read in doors(service, result).items():
            with subtests.test(name, door=door):
                try:
                    answer = read()
                except LumeError:
                    continue
                assert harmless(answer)
        raw.restore(result.unique_hash, original)
