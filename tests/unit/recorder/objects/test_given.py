"""What a pipeline is run over."""

from __future__ import annotations

import pytest
from prefect import flow

from prefect_lume.errors import InvalidInputError
from prefect_lume.recorder.objects.given import Target, json_objects, listed


@flow
def two(first, second=1):
    """Take two."""


@flow
def needy(first, second):
    """Need two."""


@flow
def nothing():
    """Take none."""


@flow
def numbers():
    """Be a generator."""
    yield 1


def test_the_parameter_that_takes_an_object():
    """It is the one that is needed, or the one that is named."""
    assert Target.of(two, None, None).parameter == "first"
    assert Target.of(two, None, {"first": 1}).parameter == "second"
    assert Target.of(needy, None, {"first": 1}).arguments(2) == {
        "first": 1,
        "second": 2,
    }


@pytest.mark.parametrize(
    ("flow_", "message"),
    [
        (needy, "say with parameter="),
        (nothing, "no parameter that could take an object"),
        (numbers, "is a generator"),
        ("no-slash", "flow-name/deployment-name"),
        (7, "flow-name/deployment-name"),
    ],
)
def test_what_cannot_be_run(flow_, message):
    """What cannot be run over objects is refused with what is allowed."""
    with pytest.raises(InvalidInputError, match=message):
        Target.of(flow_, None, None)


def test_objects_are_a_list():
    """A text is not taken for its letters."""
    assert listed(iter([1, 2])) == [1, 2]
    for wrong in ("abc", {"a": 1}, 7):
        with pytest.raises(InvalidInputError, match="list of objects"):
            listed(wrong)


def test_json_objects():
    """An object without a JSON form is named by its position."""
    assert json_objects([(1, 2), {"a": None}]) == [[1, 2], {"a": None}]
    with pytest.raises(InvalidInputError, match="Object 1, a object"):
        json_objects([1, object()])
    with pytest.raises(InvalidInputError, match="Object 0, a float"):
        json_objects([float("nan")])
