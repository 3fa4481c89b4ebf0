"""What fits into the columns of pipeline results."""

import pytest

from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines.orm.columns import (
    ID_LENGTH,
    JsonText,
    check_ids,
    fitting,
    is_id,
)


@pytest.mark.parametrize(
    ("text", "length", "kept"),
    [
        ("exact", 5, "exact"),
        ("longer", 5, "long…"),
        ("a\0b", 9, "a\\x00b"),
        ("a\0b", 4, "a\\x…"),
        ("\ud800", 9, "\\ud800"),
        ("🙂" * 5, 4, "🙂🙂🙂…"),
    ],
)
def test_texts_are_made_to_fit(text, length, kept):
    """Too long ones are cut, and what no database keeps is written out."""
    assert fitting(text, length) == kept
    assert len(kept) <= length


@pytest.mark.parametrize("value", ["", "run", "rün ", "x" * ID_LENGTH])
def test_texts_that_can_be_ids(value):
    """Any text up to the length is an id."""
    assert is_id(value)
    check_ids([value, None])


@pytest.mark.parametrize("value", ["x" * (ID_LENGTH + 1), "a\0", "\udfff", 7, b"run"])
def test_values_that_cannot_be_ids(value):
    """What is too long, or no storable text, is refused with the limit."""
    assert not is_id(value)
    with pytest.raises(InvalidInputError, match=f"at most {ID_LENGTH} characters"):
        check_ids([value])


@pytest.mark.parametrize(
    "value", [{"a": 1.0, "b": [-0.0, None, 2**70]}, [], "ü\0", 0, False]
)
def test_json_is_ascii_and_comes_back(value):
    """JSON is stored as ASCII text and comes back with the same types."""
    column = JsonText()
    text = column.process_bind_param(value, None)
    assert text.isascii()
    assert repr(column.process_result_value(text, None)) == repr(value)
    assert column.process_bind_param(None, None) is None
    assert column.process_result_value(None, None) is None
