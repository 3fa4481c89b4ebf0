"""Everything that can be wrong between a specification and its flows."""

from __future__ import annotations

import pytest

HEAD = "name: chain\nproject_name: test\ncomposing_flows:\n"


def _second(*lines: str) -> str:
    """Return a chain whose second subflow, flow2, maps file_rep and has more lines."""
    return (
        HEAD
        + "  - name: flow1\n  - name: flow2\n    mapped_parameters:\n      file_rep:\n"
        + "".join(f"        {line}\n" for line in lines)
    )


GOOD = ("parent_flow_name: flow1", "parent_task_name: save_text_file", "map_type: file")


def test_a_right_chain_has_no_problem(problems):
    """The chain that the other tests break is right."""
    assert problems(_second(*GOOD)) == ()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            HEAD + "  - name: flo1\n",
            4,
            "Did you mean 'flow1'? Known flows: 'flow1', 'flow2', 'flow3'",
        ),
        (
            HEAD + "  - name: a\n    flow_name: flow9\n    position: 1\n",
            5,
            "There is no flow 'flow9'",
        ),
        (
            HEAD + "  - name: a\n    flow_name: chain\n",
            4,
            "is the parent itself",
        ),
        (
            HEAD + "  - name: flow1\n    parameters:\n      txt1: a\n",
            6,
            "has no parameter 'txt1'. Did you mean 'text1'? Its parameters: 'count', ",
        ),
        (
            HEAD + "  - name: flow1\n    parameters:\n      count: 0\n      text1: 5\n",
            6,
            "0 is less than the minimum of 1",
        ),
        (
            HEAD + "  - name: flow1\n    parameters:\n      count: many\n",
            6,
            "takes integer: 'many' is not of type 'integer'",
        ),
        (_second("parent_flow_name: flo1"), 8, "no subflow 'flo1' here. Did you mean"),
        (_second("parent_flow_name: flow2"), 8, "'flow2' is mapped to itself"),
        (
            _second(*GOOD, "parent_project_name: prod"),
            11,
            "belongs to the project 'test', not 'prod'",
        ),
        (
            _second("parent_flow_name: flow1", "parent_task_name: save_txt", GOOD[2]),
            9,
            "no task 'save_txt'. Did you mean 'save_text_file'? Its tasks: 'count_w",
        ),
        (_second(*GOOD, "attribute_index: [a]"), 11, "goes with map_type: db only"),
        (_second(*GOOD, "attribute: outputs"), 11, "Remove attribute or change"),
        (
            _second("parent_flow_name: flow1", "parent_task_name: count_words"),
            7,
            "'count_words' returns integer, which the parameter 'file_rep' cannot take",
        ),
        (
            _second("parent_flow_name: flow1", "map_type: file"),
            7,
            "flow 'flow1' returns string. Return a FileReference",
        ),
        (
            _second(*GOOD) + "      words: {parent_flow_name: flow1, map_type: file}\n",
            11,
            "'words' takes integer and cannot hold a file reference",
        ),
        (
            _second(*GOOD) + "      words: {parent_flow_name: flow1, parent_task_name: "
            "save_text_file}\n",
            11,
            "map_type: file may be meant",
        ),
        (
            _second(*GOOD) + "    parameters:\n      file_rep: {}\n",
            12,
            "both mapped and constant",
        ),
        (
            _second(*GOOD) + "      sise: {parent_flow_name: flow1}\n",
            11,
            "The flow 'flow2' has no parameter 'sise'",
        ),
        (
            HEAD
            + "  - name: flow2\n    mapped_parameters:\n"
            + "      file_rep: {parent_flow_name: flow1, map_type: db}\n"
            + "  - name: flow1\n",
            6,
            "'flow1' has position 2 and runs after 'flow2', which has position 1",
        ),
    ],
)
def test_each_problem_has_its_line_and_its_remedy(problems, text, line, words):
    """Every kind of problem names the item, the place and what is allowed."""
    found = problems(text)
    match = [problem for problem in found if words in problem.message]
    assert match, found
    assert match[0].line == line
    assert match[0].where.startswith("composing_flows[")


def test_problems_of_all_subflows_come_together_in_the_files_order(problems):
    """Nothing stops at the first problem."""
    found = problems(
        HEAD
        + "  - {name: nope, mapped_parameters: {a: {parent_flow_name: nowhere}}}\n"
        + "  - {name: flow1, parameters: {b: 1, c: 2}}\n"
        + "  - {name: flow3, mapped_parameters: {d: {parent_flow_name: flow3}}}\n"
    )
    assert [problem.line for problem in found] == [4, 4, 5, 5, 6, 6]


def test_a_circle_is_drawn_once(problems):
    """A cycle names its members from the first in the file, and nothing besides."""
    found = problems(
        HEAD
        + "  - name: a\n    flow_name: flow3\n    position: 1\n"
        + "    mapped_parameters: {text1: {parent_flow_name: c}}\n"
        + "  - name: b\n    flow_name: flow3\n    position: 1\n"
        + "    mapped_parameters: {text1: {parent_flow_name: a}}\n"
        + "  - name: c\n    flow_name: flow3\n    position: 1\n"
        + "    mapped_parameters: {text1: {parent_flow_name: b}}\n"
    )
    assert len(found) == 1
    assert "a → b → c → a" in found[0].message
    assert found[0].line == 7


def test_every_circle_is_reported(problems):
    """Two cycles are two problems, whatever their positions say."""
    found = problems(
        HEAD
        + "".join(
            f"  - {{name: {name}, flow_name: flow3, mapped_parameters: "
            f"{{text1: {{parent_flow_name: {upstream}}}}}}}\n"
            for name, upstream in [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")]
        )
    )
    circles = [p.message for p in found if "circle" in p.message]
    assert len(found) == len(circles) == 2
    assert "a → b → a" in circles[0]
    assert "c → d → c" in circles[1]


def test_a_missing_required_parameter_is_a_problem_only_when_closed(problems):
    """An open parent gets the parameter; a closed one has nobody to give it."""
    text = HEAD + "  - name: flow1\n"
    assert problems(text) == ()
    (found,) = problems(text, closed=True)
    assert "required parameter 'text1'" in found.message
    assert found.line == 4
    assert problems(text + "    parameters: {text1: a}\n", closed=True) == ()


def test_exposed_names_that_collide_are_a_problem(problems, signatures):
    """Two subflows' parameters never become one parameter of the parent."""
    from prefect_lume.composition import from_parameter_schema

    signatures["one"] = from_parameter_schema("one", {"properties": {"b__x": {}}})
    signatures["two"] = from_parameter_schema("two", {"properties": {"x": {}}})
    text = HEAD + "  - {name: a, flow_name: one}\n  - {name: a__b, flow_name: two}\n"
    (found,) = problems(text)
    assert "'a__b__x'" in found.message
    assert found.line == 5
    settled = text.replace("flow_name: two", "flow_name: two, parameters: {x: 1}")
    assert problems(settled) == ()


def test_unknown_tasks_and_types_are_not_guessed_at(problems, signatures):
    """Where the flow's tasks are not known, a mapping's task is not checked."""
    from prefect_lume.composition import from_parameter_schema

    signatures["flow1"] = from_parameter_schema("flow1", {})
    assert problems(_second("parent_flow_name: flow1", "parent_task_name: any")) == ()


def test_a_db_mapping_fits_every_parameter(problems):
    """What a stored result holds is known only when it is read."""
    text = _second("parent_flow_name: flow1", "map_type: db", "attribute_index: [a, 0]")
    assert problems(text) == ()
