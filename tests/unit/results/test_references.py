"""References to results and files."""

import pytest
from pydantic import ValidationError

from prefect_lume.results.references import FileReference, ResultReference

RESULT = ResultReference(
    project_name="p", result_type="Generic", unique_hash="0a" * 32, attribute="outputs"
)
FILE = FileReference(
    path="demo/run/beam.h5", sha256="f" * 64, size=0, format="hdf5", storage="s3/lab"
)


@pytest.mark.parametrize("reference", [RESULT, FILE], ids=["result", "file"])
def test_a_reference_comes_back_from_json(reference):
    """A reference is small JSON, and equal after it was that."""
    text = reference.model_dump_json()
    assert type(reference).model_validate_json(text) == reference
    assert len(text) < 300
    assert hash(type(reference).model_validate_json(text)) == hash(reference)


def test_a_narrowed_reference_can_be_hashed():
    """A reference with a way into the result can be a member of a set."""
    assert len({RESULT, RESULT.narrowed(attribute_index=["a", 0])}) == 2


@pytest.mark.parametrize(
    ("model", "mark"),
    [(ResultReference, "result-reference"), (FileReference, "file-reference")],
)
def test_the_schema_is_marked(model, mark):
    """A JSON schema of a parameter tells that it is a reference."""
    assert model.model_json_schema()["x-prefect-lume"] == mark


def test_references_are_not_changed():
    """A reference is frozen, and knows no other fields."""
    with pytest.raises(ValidationError):
        RESULT.attribute = "inputs"
    with pytest.raises(ValidationError):
        FileReference.model_validate({**FILE.model_dump(), "url": "x"})


def test_a_reference_is_narrowed():
    """Narrowing gives another reference to a part of the same result."""
    narrow = RESULT.narrowed(attribute_index=["sigma", 0])
    assert (narrow.attribute, narrow.attribute_index) == ("outputs", ["sigma", 0])
    assert narrow.unique_hash == RESULT.unique_hash
    assert RESULT.attribute_index is None
    assert narrow.narrowed().attribute_index == ["sigma", 0]
    assert narrow.narrowed("inputs").attribute_index is None
    assert narrow.narrowed("inputs", ["k"]).attribute_index == ["k"]


def test_positions_and_keys_are_told_apart():
    """In attribute_index, "0" is a key and 0 a position, also after JSON."""
    narrow = RESULT.narrowed(attribute_index=["0", 0])
    found = ResultReference.model_validate_json(narrow.model_dump_json())
    assert found.attribute_index == ["0", 0]
    assert [type(step) for step in found.attribute_index] == [str, int]


@pytest.mark.parametrize(
    "changes",
    [
        {"path": ""},
        {"path": "/etc/passwd"},
        {"path": "../x"},
        {"path": "a/../../x"},
        {"path": "a//b"},
        {"path": "a/."},
        {"path": "a\\..\\b"},
        {"path": "C:/x"},
        {"path": "a\0b"},
        {"path": "a/"},
        {"sha256": "F" * 64},
        {"sha256": "f" * 63},
        {"size": -1},
        {"format": "pickle"},
    ],
    ids=repr,
)
def test_wrong_file_references_are_refused(changes):
    """A file's path stays inside its storage, its hash is one, its format known."""
    with pytest.raises(ValidationError):
        FileReference.model_validate({**FILE.model_dump(), **changes})


@pytest.mark.parametrize(
    "changes", [{"unique_hash": "x"}, {"project_name": ""}, {"result_type": ""}]
)
def test_wrong_result_references_are_refused(changes):
    """A result is named by project, type and a whole hash."""
    with pytest.raises(ValidationError):
        ResultReference.model_validate({**RESULT.model_dump(), **changes})
