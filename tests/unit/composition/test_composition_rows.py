"""Specifications as YAML, plain data and rows: nothing is lost on the way."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_lume.composition import (
    FlowOfFlowsSpec,
    composition_of,
    dump_yaml,
    load_yaml,
    slug,
    spec_from_mapping,
    spec_from_rows,
    spec_to_rows,
)
from prefect_lume.errors import CompositionError

_NAME = st.text(
    st.characters(exclude_categories=("C", "Z"), exclude_characters="/%&<>"),
    min_size=1,
    max_size=12,
)
_TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3)
    ),
    max_leaves=8,
)
_INDEX = st.lists(st.integers(-5, 5) | _TEXT, max_size=3)


@st.composite
def _mapped(draw, names):
    found = {"parent_flow_name": draw(st.sampled_from(names))}
    for key, strategy in {
        "parent_project_name": _NAME,
        "parent_task_name": _NAME,
        "map_type": st.sampled_from(["raw", "file", "db"]),
        "attribute": _NAME,
        "attribute_index": _INDEX,
    }.items():
        if draw(st.booleans()):
            found[key] = draw(strategy)
    return found


@st.composite
def specs(draw) -> FlowOfFlowsSpec:
    names = draw(st.lists(_NAME, min_size=1, max_size=4, unique_by=slug))
    flows = []
    for name in names:
        flow = {"name": name}
        for key, strategy in {
            "flow_name": _NAME,
            "project_name": _NAME,
            "position": st.integers(1, 5),
            "parameters": st.dictionaries(_TEXT, _JSON, max_size=3),
            "mapped_parameters": st.dictionaries(_TEXT, _mapped(names), max_size=2),
            "prefect_deployment": st.just("flow/deployment"),
            "labels": st.lists(_NAME, max_size=2),
        }.items():
            if draw(st.booleans()):
                flow[key] = draw(strategy)
        flows.append(flow)
    return spec_from_mapping(
        {
            "name": draw(_NAME),
            "project_name": draw(_NAME),
            "description": draw(_TEXT),
            "labels": draw(st.lists(_NAME, max_size=2)),
            "composing_flows": flows,
        }
    )


@settings(deadline=None, max_examples=50)
@given(specs())
def test_yaml_gives_back_every_specification(spec):
    """What dump_yaml writes, load_yaml reads, to the last digit and character."""
    again = load_yaml(dump_yaml(spec))
    assert again == spec
    assert again.to_mapping() == spec.to_mapping()


@settings(deadline=None)
@given(specs())
def test_rows_give_back_every_specification(spec):
    """Rows and what stays with the parent are JSON, and make the same again."""
    stored = json.loads(json.dumps([spec_to_rows(spec), composition_of(spec)]))
    again = spec_from_rows(spec.name, spec.project_name, *stored)
    assert again == spec
    assert again.to_mapping() == spec.with_positions().to_mapping()
    assert again.version == stored[1]["version"]


@settings(deadline=None)
@given(specs(), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(spec, random):
    """Rows carry their positions: a registry may give them in any order."""
    rows = spec_to_rows(spec)
    random.shuffle(rows)
    again = spec_from_rows(spec.name, spec.project_name, rows, composition_of(spec))
    assert again == spec
    assert again.version == spec.version


@settings(deadline=None)
@given(specs())
def test_plain_data_gives_back_every_specification(spec):
    """A mapping of plain data is the whole specification."""
    assert spec_from_mapping(spec.to_mapping()) == spec


def test_rows_hold_what_the_registry_keeps(upstream_file):
    """A row is plain data with its position written down."""
    row = spec_to_rows(load_yaml(upstream_file))[1]
    assert row == {
        "name": "flow2",
        "flow_name": "flow2",
        "project_name": "test",
        "position": 2,
        "mapped_parameters": {
            "file_rep": {
                "parent_flow_name": "flow1",
                "parent_project_name": "test",
                "parent_task_name": "save_text_file",
                "map_type": "file",
            }
        },
        "parameters": {},
        "options": {},
    }


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "at least one subflow"),
        ([{"name": "a", "options": {"colour": 1}}], "Unknown options: colour"),
        ([{"name": "a", "position": "first"}], "This must be a whole number"),
        ([{"flow_name": "a"}], "'name' is missing"),
    ],
)
def test_wrong_rows_name_the_registrys_entry(rows, words):
    """Rows that somebody edited are refused, and the error says whose they are."""
    with pytest.raises(CompositionError, match=words) as caught:
        spec_from_rows("chain", "test", rows)
    assert caught.value.source == "The registry's flow-of-flows 'chain'"


def test_rows_of_an_older_time_without_options_load():
    """What a row does not have is left at its default."""
    rows = [{"name": "a", "position": 1, "mapped_parameters": None, "options": None}]
    assert spec_from_rows("chain", "test", rows).positions() == {"a": 1}
