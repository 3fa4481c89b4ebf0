"""Reading YAML: upstream's own file, lines, every problem at once, files."""

from __future__ import annotations

import io

import pytest

from prefect_lume.composition import dump_yaml, load_yaml, spec_from_mapping
from prefect_lume.errors import CompositionError, InvalidInputError, NotFoundError


def test_upstreams_own_file_loads_unchanged(upstream_file):
    """The file of upstream's repository means what it meant there."""
    spec = load_yaml(upstream_file)
    assert (spec.name, spec.project_name) == ("flow_of_flows", "test")
    assert spec.labels == ["lume-services"]
    assert spec.positions() == {"flow1": 1, "flow2": 2, "flow3": 3}
    mapped = spec.composing_flows[2].mapped_parameters["text1"]
    assert mapped.to_mapping() == {
        "parent_flow_name": "flow2",
        "parent_project_name": "test",
        "parent_task_name": "save_db_result",
        "map_type": "db",
        "attribute": "outputs",
        "attribute_index": ["output1"],
    }


def test_path_text_and_streams_give_the_same(upstream_file):
    """It does not matter how the YAML comes in."""
    text = upstream_file.read_text()
    spec = load_yaml(upstream_file)
    assert load_yaml(str(upstream_file)) == spec
    assert load_yaml(text) == spec
    assert load_yaml(io.StringIO(text)) == spec
    assert load_yaml(io.BytesIO(b"\xef\xbb\xbf" + text.encode())) == spec
    assert load_yaml("{name: a, project_name: b, composing_flows: [{name: c}]}")


def test_lines_stay_with_the_specification(upstream_file):
    """Each value knows its line, and an unknown one that of what holds it."""
    lines = load_yaml(upstream_file).lines
    assert lines is not None
    assert lines.at(("name",)) == 1
    assert lines.at(("composing_flows", 0)) == 6
    path = ("composing_flows", 2, "mapped_parameters", "text1")
    assert lines.at((*path, "attribute")) == 24
    assert lines.at((*path, "nowhere", 5)) == 19
    assert lines.source == str(upstream_file)


def test_all_problems_come_at_once_with_their_lines():
    """Structure, types, keys and names are all checked in one go."""
    text = """\
name: 5
projct_name: test
composing_flows:
  - name: flow1
    position: 0
    position: 1
    parameters: {a: .nan, 1: x}
  - name: flow1
    mapped_parameters:
      p: {parent_flow_name: x, map_type: rwa}
      q: 5
  - 17
"""
    with pytest.raises(CompositionError) as caught:
        load_yaml(text)
    found = [(problem.line, problem.where) for problem in caught.value.problems]
    assert found == [
        (1, "name"),
        (1, "project_name"),
        (2, "projct_name"),
        (5, "composing_flows[0].position"),
        (6, "composing_flows[0].position"),
        (7, "composing_flows[0].parameters.a"),
        (7, "composing_flows[0].parameters"),
        (8, "composing_flows[1].name"),
        (10, "composing_flows[1].mapped_parameters.p.map_type"),
        (11, "composing_flows[1].mapped_parameters.q"),
        (12, "composing_flows[2]"),
    ]
    shown = str(caught.value)
    assert "Did you mean 'project_name'?" in shown
    assert "Did you mean 'raw'?" in shown
    assert "there twice, first on line 5" in shown
    assert "is used already (line 4)" in shown


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("name: [1,\n  2\nb: 3\n", 3, "not valid YAML"),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML"),
        ("a: 1\n---\nb: 2\n", 2, "not valid YAML"),
        ("\n", None, "It is empty"),
        ("# nothing\n", None, "It is empty"),
        ("- a\n- b\n", 1, "a mapping with a name, not a list"),
        ("name: a\x07\n", None, "not valid YAML"),
        ("name: !!python/object:os.system x\n", 1, "The tag '!!python/object"),
        ("name: !mine x\n", 1, "The tag '!mine' is not allowed"),
        ("name: *nobody\n", 1, "undefined alias"),
        ("{name: a}: b\n", 1, "A key must be text"),
        ("<<: 5\nname: a\n", 1, "takes a mapping"),
        ("name: !!int x\n", 1, "invalid literal"),
        ("name: !!bool x\n", 1, "is not true or false"),
    ],
)
def test_bad_yaml_is_one_clear_problem(text, line, words):
    """YAML that cannot be read is a problem with a line, never another exception."""
    with pytest.raises(CompositionError) as caught:
        load_yaml(text)
    problem = next(p for p in caught.value.problems if words in p.message)
    assert problem.line == line


def test_scalars_follow_yaml_1_2():
    """1e-3 is a number, on and no are text, dates stay as they were written."""
    spec = load_yaml(
        "name: a\nproject_name: on\ncomposing_flows:\n  - name: no\n    parameters:\n"
        "      p: [1e-3, 2024-01-01, 010, 1:30, 0x10, 0o17, yes, true, ~, -.5, '1', 1.]"
    )
    assert spec.project_name == "on"
    assert spec.composing_flows[0].name == "no"
    assert spec.composing_flows[0].parameters["p"] == [
        *(1e-3, "2024-01-01", 10, "1:30", 16, 15, "yes", True, None, -0.5, "1", 1.0),
    ]


def test_anchors_aliases_and_merge_keys_are_followed():
    """What is written once may be used again, and explicit keys win."""
    spec = load_yaml(
        """\
name: a
project_name: p
composing_flows:
  - &first {name: b, parameters: &constants {n: 1, m: 2}}
  - <<: *first
    name: c
    parameters: {<<: *constants, n: 3}
"""
    )
    assert spec.composing_flows[1].parameters == {"n": 3, "m": 2}
    assert spec.composing_flows[1].flow_name == "c"


def test_a_missing_file_names_its_nearest_sibling(tmp_path):
    """The error says what the folder does hold."""
    (tmp_path / "chain.yaml").write_text("")
    (tmp_path / "other.txt").write_text("")
    with pytest.raises(NotFoundError) as caught:
        load_yaml(tmp_path / "chian.yaml")
    assert "'chian.yaml'" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.known == ["chain.yaml"]
    assert "Did you mean 'chain.yaml'?" in str(caught.value)


def test_a_missing_folder_is_said_to_be_missing(tmp_path):
    """Without a folder there is nothing to suggest."""
    with pytest.raises(NotFoundError, match="does not exist"):
        load_yaml(tmp_path / "none" / "chain.yaml")


@pytest.mark.parametrize("source", [5, None, ["a"]])
def test_what_is_no_path_text_or_stream_is_refused(source):
    """The error says what can be read."""
    with pytest.raises(InvalidInputError, match="path, text or open file"):
        load_yaml(source)


def test_a_folder_and_a_file_in_another_encoding_are_refused(tmp_path):
    """Neither ends in a Python error."""
    with pytest.raises(InvalidInputError, match="cannot be read"):
        load_yaml(tmp_path)
    (tmp_path / "a.yaml").write_bytes(b"name: a\nproject_name: \xff\n")
    with pytest.raises(CompositionError, match=r"line 2: The file is not UTF-8"):
        load_yaml(tmp_path / "a.yaml")


def test_dumped_yaml_loads_back(upstream_file):
    """What dump_yaml writes is the same specification, and stays readable."""
    spec = load_yaml(upstream_file)
    text = dump_yaml(spec)
    assert load_yaml(text) == spec
    assert load_yaml(text).to_mapping() == spec.to_mapping()
    assert "flow_name: flow1" not in text.replace("parent_flow_name: flow1", "")


@pytest.mark.parametrize("given", [[], "text", None])
def test_plain_data_that_is_no_mapping_is_refused(given):
    """A list or a text is no flow-of-flows."""
    with pytest.raises(CompositionError, match="a mapping with a name"):
        spec_from_mapping(given)
