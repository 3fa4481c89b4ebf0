"""What a flow-of-flows is: its subflows, their positions and their mappings."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StrictInt,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from prefect_lume._fingerprint import sha256_tree
from prefect_lume.composition._translate import translate
from prefect_lume.composition.fields import (
    Constant,
    DeploymentName,
    FlowName,
    Name,
    Step,
    slug,
)
from prefect_lume.composition.lines import LineMap, Path, place, problem_at, refuse
from prefect_lume.errors import Problem

#: How a value comes from the upstream flow: itself, as a file, as a stored result.
MapType = Literal["raw", "file", "db"]

#: True while a specification is validated from outside: its parts then let their
#: errors travel up, so that all of them are reported at once.
_inside: ContextVar[bool] = ContextVar("prefect_lume_inside_spec", default=False)


class _Part(BaseModel):
    """A part of a specification, whose errors are all in one CompositionError."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Field → the part that it holds, in a list or a mapping.
    _parts: ClassVar[dict[str, type[_Part]]] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _one_error_tree(
        cls, data: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> Self:
        if isinstance(data, Mapping):
            # A key with nothing behind it counts as left out, as upstream's did.
            data = {key: value for key, value in data.items() if value is not None}
        if _inside.get():
            inner: Self = handler(data)
            return inner
        lines = (info.context or {}).get("lines")
        source = (info.context or {}).get("source", "")
        problems = cls._own_problems(data, lines)
        token = _inside.set(True)
        try:
            part: Self = handler(data)
        except ValidationError as exc:
            errors = exc.errors(include_url=False)
            problems = [*translate(errors, cls._allowed, lines), *problems]
            raise refuse(problems, source) from exc
        finally:
            _inside.reset(token)
        if problems:
            raise refuse(problems, source)
        return part

    @classmethod
    def _own_problems(cls, _data: object, _lines: LineMap | None) -> list[Problem]:
        """Return what is wrong between the parts of this one."""
        return []

    @classmethod
    def _allowed(cls, path: Path) -> list[str]:
        for depth, step in enumerate(path):
            part = cls._parts.get(str(step))
            if part is not None:
                return part._allowed(path[depth + 2 :])
        return list(cls.model_fields)

    def to_mapping(self) -> dict[str, Any]:
        """Return the part as plain data, without what has its default."""
        return self.model_dump(mode="json", exclude_defaults=True)


class MappedParameter(_Part):
    """A parameter of a subflow that is fed by the result of an earlier one.

    Example:
        >>> MappedParameter(parent_flow_name="generate").map_type
        'raw'
    """

    parent_flow_name: Name = Field(
        description="The subflow that the value comes from, by its name here."
    )
    parent_project_name: Name | None = Field(
        default=None, description="That subflow's project, if it is to be checked."
    )
    parent_task_name: Name | None = Field(
        default=None,
        description="The task whose result is taken; without one, the flow's own "
        "return value.",
    )
    map_type: MapType = Field(
        default="raw",
        description="raw: the value itself. file: a file reference. db: a stored "
        "result.",
    )
    attribute: Name | None = Field(
        default=None,
        description="db only: the field of the stored result, such as outputs.",
    )
    attribute_index: list[Step] | None = Field(
        default=None,
        description="db only: keys and list indices that lead into the attribute.",
    )


class ComposingFlow(_Part):
    """One subflow of a flow-of-flows."""

    _parts = {"mapped_parameters": MappedParameter}

    name: FlowName = Field(
        description="The subflow's name inside the parent. No two share it."
    )
    flow_name: FlowName = Field(
        default_factory=lambda data: data.get("name", ""),
        description="The flow that runs; without it, the flow called like the subflow.",
    )
    project_name: Name = Field(
        default="",
        description="The flow's project; without it, the parent's.",
    )
    position: Annotated[StrictInt, Field(ge=1)] | None = Field(
        default=None,
        description="1 runs first; equal positions may run at the same time.",
    )
    mapped_parameters: dict[str, MappedParameter] = Field(
        default_factory=dict,
        description="Parameter → the upstream result that feeds it.",
    )
    parameters: dict[str, Constant] = Field(
        default_factory=dict, description="Parameter → a constant in its JSON form."
    )
    prefect_deployment: DeploymentName | None = Field(
        default=None,
        description="The Prefect deployment that runs it: '<flow>/<deployment>'.",
    )
    labels: list[Name] = Field(default_factory=list, description="Tags of its runs.")

    @property
    def slug(self) -> str:
        """The first part of the names of its parameters on the parent."""
        return slug(self.name)


class FlowOfFlowsSpec(_Part):
    """A parent flow and its subflows, before anything is known of the flows.

    Two specifications are equal when they compose the same flow: positions count as
    they come out, whether they were written down or implied by the order of the list.

    Raises:
        CompositionError: Naming every problem at once.

    Example:
        >>> spec = FlowOfFlowsSpec(
        ...     name="chain",
        ...     project_name="test",
        ...     composing_flows=[
        ...         ComposingFlow(name="first"),
        ...         ComposingFlow(name="second", position=2),
        ...     ],
        ... )
        >>> spec.positions()
        {'first': 1, 'second': 2}
    """

    _parts = {"composing_flows": ComposingFlow}
    _lines: LineMap | None = PrivateAttr(default=None)

    name: FlowName = Field(description="The parent flow's name.")
    project_name: Name = Field(description="The project that it belongs to.")
    description: str = Field(default="", description="What it is for.")
    labels: list[Name] = Field(default_factory=list, description="Tags of its runs.")
    composing_flows: list[ComposingFlow] = Field(
        min_length=1, description="The subflows."
    )

    @field_validator("composing_flows")
    @classmethod
    def _inherit_project(
        cls, flows: list[ComposingFlow], info: ValidationInfo
    ) -> list[ComposingFlow]:
        project = info.data.get("project_name", "")
        return [
            flow
            if flow.project_name
            else flow.model_copy(update={"project_name": project})
            for flow in flows
        ]

    @classmethod
    def _own_problems(cls, data: object, lines: LineMap | None) -> list[Problem]:
        flows = data.get("composing_flows") if isinstance(data, dict) else None
        problems = []
        seen: dict[str, tuple[int, str]] = {}
        for index, flow in enumerate(flows if isinstance(flows, list | tuple) else ()):
            name = flow.get("name") if isinstance(flow, dict) else flow
            name = name.name if isinstance(name, ComposingFlow) else name
            if not isinstance(name, str) or not name.strip():
                continue
            first, other = seen.setdefault(slug(name), (index, name))
            if first == index:
                continue
            path: Path = ("composing_flows", index, "name")
            line = lines.at(("composing_flows", first, "name")) if lines else None
            where = f"line {line}" if line else place(("composing_flows", first))
            problems.append(
                problem_at(path, _same_name(name, other, where), lines),
            )
        return problems

    @property
    def lines(self) -> LineMap | None:
        """The lines of the file that it was read from, if it was."""
        return self._lines

    @property
    def version(self) -> str:
        """Twelve digits that change when anything of the composition changes."""
        return self._digest()[:12]

    def positions(self) -> dict[str, int]:
        """Return each subflow's position, 1-based, in the order of the list.

        A subflow without a position comes one after the subflow above it; the first
        one has position 1. So a list without positions runs one by one.
        """
        found: dict[str, int] = {}
        last = 0
        for flow in self.composing_flows:
            last = flow.position if flow.position is not None else last + 1
            found[flow.name] = last
        return found

    def with_positions(self) -> FlowOfFlowsSpec:
        """Return the same specification with every position written down."""
        found = self.positions()
        flows = [
            flow.model_copy(update={"position": found[flow.name]})
            for flow in self.composing_flows
        ]
        return self.model_copy(update={"composing_flows": flows})

    def to_mapping(self) -> dict[str, Any]:
        """Return it as plain data, without what has its default.

        ``spec_from_mapping`` reads it back.
        """
        mapping = super().to_mapping()
        flows = []
        for flow in self.composing_flows:
            entry = flow.to_mapping()
            entry["name"] = flow.name
            if flow.flow_name == flow.name:
                entry.pop("flow_name", None)
            flows.append(entry)
        mapping["composing_flows"] = flows
        return mapping

    def _digest(self) -> str:
        mapping = self.with_positions().to_mapping()
        # With every position written down, the order of the list says nothing more.
        mapping["composing_flows"].sort(
            key=lambda flow: (flow["position"], flow["name"])
        )
        return sha256_tree(mapping)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FlowOfFlowsSpec):
            return NotImplemented
        return self._digest() == other._digest()

    def __hash__(self) -> int:
        return hash(self._digest())


def _same_name(name: str, other: str, where: str) -> str:
    remedy = "Give every subflow a name of its own, and say under flow_name which flow"
    if name == other:
        return f"The name {name!r} is used already ({where}). {remedy} it runs."
    return (
        f"The name {name!r} and {other!r} ({where}) both become {slug(name)!r} in the "
        f"parent's parameters. {remedy} it runs."
    )
