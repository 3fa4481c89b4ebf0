"""What the graph must know of a Prefect flow, and the parent's typed parameters."""

import inspect
import typing
import warnings
from collections.abc import Callable, Mapping
from inspect import Parameter
from typing import Annotated, Any

from prefect import Flow
from prefect.client.schemas.responses import DeploymentResponse
from pydantic import AfterValidator, TypeAdapter, WithJsonSchema
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from prefect_lume.composer.discovery import find_tasks
from prefect_lume.composition import (
    FLOW_RETURN,
    MISSING,
    CompositionGraph,
    ExposedParameter,
    SubflowSignature,
    from_parameter_schema,
)
from prefect_lume.composition.fit import misfit

#: What Prefect adds to a property, and would contradict the parent's own.
_NOT_OURS = frozenset({"title", "position", "default"})


def signature_of(flow: Flow[..., Any], project_name: str = "") -> SubflowSignature:
    """Return what is known of a flow object."""
    tasks = find_tasks(flow)
    returns = {
        name: schema
        for name, task in (tasks or {}).items()
        if (schema := _return_schema(task.fn))
    }
    own = _return_schema(flow.fn)
    if own:
        returns[FLOW_RETURN] = own
    return from_parameter_schema(
        flow.name,
        flow.parameters.model_dump_for_openapi(),
        project_name=project_name,
        tasks=tasks,
        task_returns=returns,
    )


def signature_of_deployment(
    flow_name: str, deployment: DeploymentResponse, project_name: str = ""
) -> SubflowSignature:
    """Return what Prefect knows of a flow by one of its Prefect deployments."""
    schema = deployment.parameter_openapi_schema or {}
    return from_parameter_schema(flow_name, schema, project_name=project_name)


def parent_parameters(
    graph: CompositionGraph, flows: Mapping[str, Flow[..., Any] | None]
) -> list[Parameter]:
    """Return the parent's keyword-only parameters, typed as the subflows' are.

    Args:
        graph: The checked composition.
        flows: Subflow name → its flow object, if there is one.
    """
    return [
        _parameter(name, exposed, flows.get(exposed.subflow))
        for name, exposed in graph.exposed.items()
    ]


def _parameter(
    name: str, exposed: ExposedParameter, flow: Flow[..., Any] | None
) -> Parameter:
    own = inspect.signature(flow.fn).parameters.get(exposed.parameter) if flow else None
    schema = {
        key: value for key, value in exposed.spec.schema.items() if key not in _NOT_OURS
    }
    kind: Any = _annotation(flow, exposed.parameter) if flow else Parameter.empty
    annotation: Any = Annotated[kind, WithJsonSchema(schema)]
    if kind is Parameter.empty:
        check = AfterValidator(_follows(exposed))
        annotation = Annotated[Any, check, WithJsonSchema(schema)]
    if own is not None:
        default = own.default
    elif exposed.spec.default is not MISSING:
        default = exposed.spec.default
    else:
        default = Parameter.empty if exposed.spec.required else None
    return Parameter(
        name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _annotation(flow: Flow[..., Any], parameter: str) -> Any:
    """Return a parameter's annotation, or ``Parameter.empty`` if it has no use."""
    hints = _hints(flow.fn)
    found = hints.get(parameter, Parameter.empty)
    return Parameter.empty if isinstance(found, str) else found


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # A name that only type checkers see: what can be had without it.
        return dict(getattr(function, "__annotations__", {}))


def _follows(exposed: ExposedParameter) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        problem = misfit(value, exposed.spec)
        if problem:
            raise ValueError(problem)
        return value

    return check


def _return_schema(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the JSON schema of a function's return annotation, {} if it has none."""
    kind = _hints(function).get("return", Any)
    if kind is Any or isinstance(kind, str) or kind is type(None):
        return {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return TypeAdapter(kind).json_schema()
    except (PydanticSchemaGenerationError, PydanticUserError, TypeError, NameError):
        return {}
