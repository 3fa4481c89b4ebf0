"""What a specification accepts, how it counts positions, and when two are equal."""

from __future__ import annotations

import math

import pytest

from prefect_lume.composition import (
    ComposingFlow,
    FlowOfFlowsSpec,
    MappedParameter,
    slug,
)
from prefect_lume.errors import CompositionError


def _spec(*flows: ComposingFlow | dict, **fields) -> FlowOfFlowsSpec:
    return FlowOfFlowsSpec(
        name="chain", project_name="test", composing_flows=list(flows), **fields
    )


def _flows(*positions: int | None) -> list[ComposingFlow]:
    return [
        ComposingFlow(name=f"f{i}", position=position)
        for i, position in enumerate(positions)
    ]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None, None), [1, 2, 3]),
        ((2, 1, 1), [2, 1, 1]),
        ((None, 1, None), [1, 1, 2]),
        ((3, None, 1, None), [3, 4, 1, 2]),
    ],
)
def test_a_missing_position_is_one_more_than_the_one_above(given, expected):
    """A subflow without a position runs right after the subflow above it."""
    assert list(_spec(*_flows(*given)).positions().values()) == expected


def test_flow_name_and_project_default_to_the_subflow_and_the_parent():
    """A subflow runs the flow of its own name in the parent's project."""
    spec = _spec(ComposingFlow(name="a"), {"name": "b", "project_name": "other"})
    a, b = spec.composing_flows
    assert (a.flow_name, a.project_name) == ("a", "test")
    assert (b.flow_name, b.project_name) == ("b", "other")


def test_a_key_with_nothing_behind_it_counts_as_left_out():
    """The empty keys that upstream allowed are defaults."""
    spec = _spec({"name": "a", "mapped_parameters": None, "position": None})
    assert spec == _spec({"name": "a"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("transport", "transport"),
        ("beam-line 1", "beam_line_1"),
        ("2nd", "flow_2nd"),
        ("__x", "x"),
        ("---", "flow"),
        ("käse", "käse"),
        ("ﬁt", "fit"),
        ("class", "class"),
    ],
)
def test_slugs_are_identifiers(name, expected):
    """Every name becomes the beginning of a parameter that Python and Prefect take."""
    assert slug(name) == expected
    assert f"{expected}__x".isidentifier()


def test_equal_and_colliding_names_are_problems_that_name_both():
    """Two subflows may not share a name, nor what becomes of it in parameters."""
    with pytest.raises(CompositionError) as caught:
        _spec({"name": "a b"}, {"name": "a-b"}, {"name": "c"}, {"name": "c"})
    first, second = caught.value.problems
    assert "'a-b' and 'a b'" in first.message
    assert "'a_b'" in first.message
    assert first.where == "composing_flows[1].name"
    assert "'c' is used already (composing_flows[2])" in second.message


def test_all_problems_of_a_python_specification_are_reported_at_once():
    """Wrong types, unknown keys and missing ones come in one CompositionError."""
    with pytest.raises(CompositionError) as caught:
        FlowOfFlowsSpec.model_validate(
            {
                "nam": "chain",
                "composing_flows": [
                    {"name": 3},
                    {"name": "b", "position": 0},
                    {"name": "c", "position": True},
                    {"name": "d", "prefect_deployment": "d"},
                    {"name": "e", "mapped_parameters": {"p": {"map_type": "raw"}}},
                ],
            }
        )
    places = {problem.where: problem.message for problem in caught.value.problems}
    assert set(places) == {
        "nam",
        "name",
        "project_name",
        "composing_flows[0].name",
        "composing_flows[1].position",
        "composing_flows[2].position",
        "composing_flows[3].prefect_deployment",
        "composing_flows[4].mapped_parameters.p.parent_flow_name",
    }
    assert "Did you mean 'name'?" in places["nam"]


@pytest.mark.parametrize(
    "build",
    [
        lambda: ComposingFlow(name="a", positon=1),
        lambda: ComposingFlow(name="a/b"),
        lambda: ComposingFlow(name=" "),
        lambda: ComposingFlow(name="a\nb"),
        lambda: ComposingFlow(name="x" * 201),
        MappedParameter,
        lambda: MappedParameter(parent_flow_name="a", map_type="pickle"),
        lambda: MappedParameter(parent_flow_name="a", attribute_index=[1.5]),
        _spec,
        lambda: _spec("a"),
    ],
)
def test_parts_made_in_python_raise_the_same_error(build):
    """Every part of a specification refuses wrong input with a CompositionError."""
    with pytest.raises(CompositionError):
        build()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (math.nan, "nan has no JSON form"),
        ([1, {"a": math.inf}], r"at \[1\].a"),
        ({"a": object()}, "a object has no JSON form"),
        ({1: "a"}, "The key 1 is not text"),
        ((1, 2), "has no JSON form"),
    ],
)
def test_constants_have_a_json_form(value, words):
    """A constant that JSON cannot hold is refused with its place."""
    with pytest.raises(CompositionError, match=words):
        ComposingFlow(name="a", parameters={"p": value})


def test_a_constant_that_holds_itself_is_refused():
    """A list inside itself ends in an error, not in a crash."""
    endless: list = []
    endless.append(endless)
    with pytest.raises(CompositionError, match="100 levels"):
        ComposingFlow(name="a", parameters={"p": endless})


def test_specifications_are_equal_when_they_compose_the_same():
    """Written and implied positions are the same; anything else is a new version."""
    implied, written = _spec(*_flows(None, None)), _spec(*_flows(1, 2))
    assert implied == written
    assert hash(implied) == hash(written)
    assert implied.version == written.version
    assert len(implied.version) == 12
    for other in (
        _spec(*_flows(1, 1)),
        _spec(*_flows(None, None), description="x"),
        _spec(*_flows(None, None), labels=["x"]),
        _spec({"name": "f0", "parameters": {"n": 1}}, {"name": "f1"}),
        _spec({"name": "f0", "parameters": {"n": 1.0}}, {"name": "f1"}),
    ):
        assert other != implied
        assert other.version != implied.version
    assert implied != "chain"


def test_with_positions_writes_every_position_down():
    """Making positions explicit changes nothing else."""
    spec = _spec(*_flows(None, 1, None)).with_positions()
    assert [flow.position for flow in spec.composing_flows] == [1, 1, 2]
    assert spec == _spec(*_flows(None, 1, None))


def test_a_specification_cannot_be_changed():
    """Attributes of a specification are not assigned to."""
    spec = _spec(*_flows(None))
    with pytest.raises(ValueError, match="frozen"):
        spec.name = "other"
