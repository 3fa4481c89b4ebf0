"""What a pipeline is run over, checked before anything runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from pydantic_core import PydanticSerializationError, to_jsonable_python

from prefect_lume.errors import InvalidInputError, clip, name_list, suggestion


@dataclass(frozen=True)
class Target:
    """What is run on each object: a flow in this process, or a Prefect deployment.

    Attributes:
        flow_name: The flow's name.
        flow: The flow, if it runs here.
        deployment: The full name of the Prefect deployment otherwise.
        parameter: The flow's parameter that takes an object.
        parameters: The other parameters, the same for all objects.
        problem: Why nothing of it can run; nothing if it can.
    """

    flow_name: str
    flow: Flow[..., Any] | None
    deployment: str
    parameter: str
    parameters: dict[str, Any]
    problem: str = ""

    @classmethod
    def of(
        cls,
        flow: Flow[..., Any] | str,
        parameter: str | None,
        parameters: Mapping[str, Any] | None,
    ) -> Target:
        """Return what is to be run.

        Args:
            flow: The flow, or ``"flow-name/deployment-name"``.
            parameter: The parameter that takes an object, if it was said.
            parameters: The other parameters.

        Raises:
            InvalidInputError: It is neither, or has no such parameters.
        """
        others = dict(parameters or {})
        if isinstance(flow, Flow):
            if flow.isgenerator:
                raise InvalidInputError(
                    f"{flow.name!r} is a generator: a pipeline runs flows that return "
                    f"their result."
                )
            schema = flow.parameters
            known, required = list(schema.properties), list(schema.required)
            name = _parameter(flow.name, known, required, parameter, others)
            return cls(flow.name, flow, "", name, others)
        # Whatever the types say, people give what they have.
        text: Any = flow
        if type(text) is not str or text.count("/") != 1 or "" in text.split("/"):
            raise InvalidInputError(
                f"A pipeline runs a Prefect flow, or a Prefect deployment named "
                f"'flow-name/deployment-name', not {clip(repr(flow), 80)}."
            )
        flow_name = flow.split("/")[0]
        try:
            with get_client(sync_client=True) as client:
                found = client.read_deployment_by_name(flow)
        except ObjectNotFound:
            problem = (
                f"There is no Prefect deployment {flow!r}: deploy the flow first, or "
                f"correct the name ('flow-name/deployment-name')."
            )
            name = parameter or "object"
            return cls(flow_name, None, flow, name, others, problem)
        known_schema: dict[str, Any] = found.parameter_openapi_schema or {}
        known = list(known_schema.get("properties", {}))
        required = list(known_schema.get("required", []))
        name = _parameter(flow, known, required, parameter, others)
        return cls(flow_name, None, flow, name, others)

    def arguments(self, obj: Any) -> dict[str, Any]:
        """Return all parameters of the run on one object."""
        return {**self.parameters, self.parameter: obj}


def _parameter(
    flow: str,
    known: Sequence[str],
    required: Sequence[str],
    chosen: str | None,
    others: Mapping[str, Any],
) -> str:
    """Return the parameter that takes an object, and check the names of all."""
    allowed = f"The parameters of {flow!r} are {name_list(known)}."
    for name in (*others, *([chosen] if chosen is not None else [])):
        if name not in known:
            raise InvalidInputError(
                f"{flow!r} has no parameter {clip(repr(name), 80)}."
                f"{suggestion(str(name), known)} {allowed}"
            )
    if chosen is None:
        free = [name for name in known if name not in others]
        needed = [name for name in free if name in required]
        if not free:
            raise InvalidInputError(
                f"{flow!r} has no parameter that could take an object. {allowed}"
            )
        if len(needed) > 1:
            raise InvalidInputError(
                f"{flow!r} needs {name_list(needed)}: say with parameter= which of "
                f"them takes an object, and give the others in parameters=."
            )
        return (needed or free)[0]
    if chosen in others:
        raise InvalidInputError(
            f"The parameter {chosen!r} takes the objects: leave it out of parameters=."
        )
    missing = [name for name in required if name != chosen and name not in others]
    if missing:
        raise InvalidInputError(
            f"{flow!r} also needs {name_list(missing)}: give them in parameters=."
        )
    return chosen


def listed(objects: Iterable[Any]) -> list[Any]:
    """Return the objects as a list.

    Raises:
        InvalidInputError: They cannot be gone through, or are one text or mapping.
    """
    if isinstance(objects, str | bytes | Mapping) or not isinstance(objects, Iterable):
        raise InvalidInputError(
            f"A pipeline runs over a list of objects, not over a "
            f"{type(objects).__name__}."
        )
    return list(objects)


def json_objects(objects: Sequence[Any]) -> list[Any]:
    """Return objects as JSON, all of them, as another process is to get them.

    Raises:
        InvalidInputError: One has no JSON form; the message says which.
    """
    made = []
    for index, obj in enumerate(objects):
        try:
            plain = to_jsonable_python(obj)
            json.dumps(plain, allow_nan=False)
        except (PydanticSerializationError, ValueError, TypeError) as error:
            raise InvalidInputError(
                f"Object {index}, a {type(obj).__name__}, has no JSON form, which it "
                f"needs to reach the Prefect deployment: {clip(error, 120)}"
            ) from error
        made.append(plain)
    return made
