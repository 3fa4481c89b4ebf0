"""What is known of a flow that takes part: parameters, tasks, what they return."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, TypeAlias

from prefect_lume.errors import InvalidInputError

Schema: TypeAlias = dict[str, Any]


class Missing(Enum):
    """The type of :data:`MISSING`."""

    MISSING = "MISSING"

    def __repr__(self) -> str:
        return self.value


#: Stands for a default that does not exist (``None`` is a default).
MISSING: Final = Missing.MISSING

#: Key of the flow's own return value in ``SubflowSignature.task_returns``.
FLOW_RETURN: Final = ""

_MOST_NODES = 50_000
#: Keywords of JSON schema that hold data, not schemas.
_DATA = frozenset({"const", "default", "enum", "example", "examples", "required"})
#: Keywords that hold a mapping of names to schemas.
_NAMED = frozenset({"properties", "patternProperties", "dependentSchemas"})
_DEFINITIONS = ("definitions", "$defs")


@dataclass(frozen=True)
class ParameterSpec:
    """One parameter of a flow.

    Attributes:
        name: The parameter.
        schema: Its JSON schema, with no ``$ref`` left in it.
        required: True when it has no default.
        default: Its default in JSON form, or :data:`MISSING`.
        description: What the flow's author says about it.
    """

    name: str
    schema: Schema = field(default_factory=dict)
    required: bool = False
    default: Any = MISSING
    description: str = ""


@dataclass(frozen=True)
class SubflowSignature:
    """What the graph must know of a flow.

    Attributes:
        flow_name: The flow.
        project_name: Its project, or "" when that is not known.
        parameters: Its parameters, by name, in their order.
        tasks: The names of its tasks, or ``None`` when they are not known; then a
            mapping's task is not checked.
        task_returns: Task name → JSON schema of its return annotation, where known;
            the key :data:`FLOW_RETURN` holds the flow's own.
    """

    flow_name: str
    project_name: str = ""
    parameters: Mapping[str, ParameterSpec] = field(default_factory=dict)
    tasks: frozenset[str] | None = None
    task_returns: Mapping[str, Schema] = field(default_factory=dict)


def from_parameter_schema(
    flow_name: str,
    schema: Mapping[str, Any],
    *,
    project_name: str = "",
    tasks: Iterable[str] | None = None,
    task_returns: Mapping[str, Mapping[str, Any]] | None = None,
) -> SubflowSignature:
    """Return the signature of a flow from Prefect's parameter schema.

    Args:
        flow_name: The flow.
        schema: An object schema with ``properties``, ``required`` and
            ``definitions`` or ``$defs``, as Prefect keeps it with a flow or a Prefect
            deployment.
        project_name: The flow's project.
        tasks: The names of its tasks; ``None`` if they are not known.
        task_returns: Task name (or :data:`FLOW_RETURN`) → JSON schema of its return.

    Raises:
        InvalidInputError: It is not such a schema.

    Example:
        >>> signature = from_parameter_schema("drift", {
        ...     "type": "object",
        ...     "properties": {"beam": {"$ref": "#/definitions/Beam"}},
        ...     "required": ["beam"],
        ...     "definitions": {"Beam": {"type": "object"}},
        ... })
        >>> signature.parameters["beam"].schema
        {'type': 'object'}
    """
    properties = schema.get("properties", {})
    required = schema.get("required", [])
    if not isinstance(properties, Mapping) or not isinstance(required, list | tuple):
        raise InvalidInputError(
            f"The parameter schema of the flow {flow_name!r} must be an object schema "
            "with 'properties' and 'required', as Prefect makes it."
        )
    parameters = {}
    for name, prop in properties.items():
        inlined = inline_refs(prop, schema)
        parameters[name] = ParameterSpec(
            name=name,
            schema=inlined,
            required=name in required,
            default=inlined.get("default", MISSING),
            description=str(inlined.get("description") or ""),
        )
    returns = {
        task: inline_refs(result, result)
        for task, result in (task_returns or {}).items()
    }
    known = None if tasks is None else frozenset(tasks)
    return SubflowSignature(flow_name, project_name, parameters, known, returns)


def inline_refs(schema: Any, root: Mapping[str, Any]) -> Schema:
    """Return a JSON schema in which every ``$ref`` is replaced by what it names.

    A schema that holds itself is open at the place where it would begin again, and
    so is a reference that leads nowhere or out of the document: nothing is fetched.

    Args:
        schema: The schema, or part of one.
        root: The document that holds the definitions.

    Raises:
        InvalidInputError: It would grow past 50,000 parts.
    """
    return _Inliner(root).schema(schema, ())


class _Inliner:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._nodes = 0

    def schema(self, node: Any, inside: tuple[str, ...]) -> Schema:
        """Return a schema; ``inside`` are the references that led here."""
        if not isinstance(node, Mapping):
            # A schema may also be true (anything) or false (nothing).
            return {"not": {}} if node is False else {}
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise InvalidInputError(
                f"A parameter schema grows past {_MOST_NODES} parts when its "
                "references are followed. Simplify the type of the parameter."
            )
        reference = node.get("$ref")
        found: Schema = {}
        if isinstance(reference, str) and reference not in inside:
            found = self.schema(self._target(reference), (*inside, reference))
        for key, value in node.items():
            if key == "$ref" or key in _DEFINITIONS:
                continue
            if key in _NAMED and isinstance(value, Mapping):
                found[key] = {
                    name: self.schema(sub, inside) for name, sub in value.items()
                }
            else:
                found[key] = self._value(key, value, inside)
        return found

    def _value(self, key: str, value: Any, inside: tuple[str, ...]) -> Any:
        if key in _DATA:
            return value
        if isinstance(value, Mapping):
            return self.schema(value, inside)
        if isinstance(value, list):
            return [
                self.schema(item, inside) if isinstance(item, Mapping) else item
                for item in value
            ]
        return value

    def _target(self, reference: str) -> Any:
        if not reference.startswith("#"):
            return {}
        target: Any = self._root
        for step in reference[1:].strip("/").split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            if name and not isinstance(target, Mapping):
                return {}
            target = target.get(name, {}) if name else target
        return target
