"""What is read from Prefect's parameter schemas."""

from __future__ import annotations

import json

import pytest
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel

from prefect_lume.composition import (
    MISSING,
    from_parameter_schema,
    inline_refs,
)
from prefect_lume.errors import InvalidInputError


class Node(BaseModel):
    """A type that holds itself."""

    value: int
    children: list[Node] = []


def _flow(node: Node, scale: float = 1.5, label: str | None = None, other=None):
    """Scale a tree.

    Args:
        node: The tree.
        scale: How much larger.
        label: Its name.
        other: Anything.
    """


def test_prefects_own_schema_becomes_a_signature():
    """Types, defaults, requirement and description come from Prefect's schema."""
    schema = parameter_schema(_flow).model_dump_for_openapi()
    signature = from_parameter_schema("f", schema, project_name="p", tasks=["a"])
    assert (signature.flow_name, signature.project_name) == ("f", "p")
    assert signature.tasks == {"a"}
    assert list(signature.parameters) == ["node", "scale", "label", "other"]
    node, scale, label, other = signature.parameters.values()
    assert (node.required, node.default) == (True, MISSING)
    assert (scale.required, scale.default) == (False, 1.5)
    assert scale.description == "How much larger."
    assert scale.schema["type"] == "number"
    assert label.default is None
    assert other.default is None
    assert "$ref" not in json.dumps(node.schema)
    assert node.schema["properties"]["value"]["type"] == "integer"


def test_a_type_that_holds_itself_is_cut_where_it_begins_again():
    """A cycle of references ends in an open schema."""
    root = {
        "definitions": {
            "A": {"type": "object", "properties": {"b": {"$ref": "#/definitions/B"}}},
            "B": {"type": "array", "items": {"$ref": "#/definitions/A"}},
        }
    }
    found = inline_refs({"$ref": "#/definitions/A", "title": "mine"}, root)
    assert found == {
        "type": "object",
        "title": "mine",
        "properties": {"b": {"type": "array", "items": {}}},
    }


@pytest.mark.parametrize(
    "reference",
    ["#/definitions/None", "https://example.org/a.json", "other.json#/a", "#/a/b/c"],
)
def test_a_reference_that_leads_nowhere_is_open(reference):
    """Nothing is fetched, and nothing fails."""
    assert inline_refs({"$ref": reference, "title": "x"}, {"a": 1}) == {"title": "x"}


def test_names_and_data_are_not_taken_for_schemas():
    """A property called $ref and a default that looks like one stay as they are."""
    schema = {
        "properties": {"$ref": {"type": "string"}, "definitions": {"type": "null"}},
        "default": {"$ref": "#/definitions/A"},
        "additionalProperties": False,
        "prefixItems": [{"$ref": "#/definitions/A"}, True],
    }
    root = {"definitions": {"A": {"type": "integer"}}}
    found = inline_refs(schema, root)
    assert found["properties"] == schema["properties"]
    assert found["default"] == schema["default"]
    assert found["additionalProperties"] is False
    assert found["prefixItems"] == [{"type": "integer"}, True]


def test_definitions_in_both_places_and_escaped_names_are_found():
    """``$defs`` and JSON pointer's escapes work too."""
    root = {"$defs": {"a/b~c": {"type": "integer"}}}
    assert inline_refs({"$ref": "#/$defs/a~1b~0c"}, root) == {"type": "integer"}


def test_a_schema_that_explodes_is_refused():
    """References that double at each step end in an error, not in the memory."""
    definitions = {
        f"A{i}": {"anyOf": [{"$ref": f"#/definitions/A{i + 1}"}] * 2} for i in range(40)
    }
    with pytest.raises(InvalidInputError, match="50000 parts"):
        inline_refs({"$ref": "#/definitions/A0"}, {"definitions": definitions})


@pytest.mark.parametrize(
    "schema", [{"properties": []}, {"required": "a"}, {"properties": "x"}]
)
def test_what_is_no_object_schema_is_refused(schema):
    """The error names the flow."""
    with pytest.raises(InvalidInputError, match="'f'"):
        from_parameter_schema("f", schema)


def test_a_flow_without_parameters_has_none():
    """An empty schema is a flow without parameters; its tasks are not known."""
    signature = from_parameter_schema("f", {})
    assert signature.parameters == {}
    assert signature.tasks is None
