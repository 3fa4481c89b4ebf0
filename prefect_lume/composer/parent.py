"""Makes the parent: a Prefect flow whose typed signature the composition decides."""

import types
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter, Signature
from typing import Annotated, Any, Literal

from prefect import Flow
from pydantic import WithJsonSchema

from prefect_lume.composer.plan import DEPLOYMENTS, IN_PROCESS, Plan

#: The parent's reserved parameter, which no subflow parameter can be called.
RUN_SUBFLOWS = "run_subflows"

_HOW = Annotated[
    Literal["in-process", "deployments"],
    # The schema in full: of a mere description Prefect would make nothing.
    WithJsonSchema(
        {
            "type": "string",
            "enum": ["in-process", "deployments"],
            "description": (
                "How the subflows run: in the parent's process, or each as its own "
                "Prefect deployment on its own work pool."
            ),
        }
    ),
]


def make_flow(
    plan: Plan,
    parameters: Sequence[Parameter],
    run: Callable[[Plan, str, Mapping[str, Any]], Any],
    *,
    version: str,
    description: str,
    variable: str,
    module: str,
) -> Flow[..., Any]:
    """Return the parent flow.

    Args:
        plan: What it runs.
        parameters: Its keyword-only parameters, beside the reserved one.
        run: Runs the plan: called with the plan, how, and the parameters.
        version: The flow's version.
        description: The flow's description.
        variable: The name of the variable that will hold the flow.
        module: The name of the module of that variable.
    """

    def parent(**given: Any) -> Any:
        how = given.pop(RUN_SUBFLOWS, IN_PROCESS)
        return run(plan, how, given)

    # `prefect deploy file.py:variable` and `to_deployment` find a flow by its
    # function's module and name.
    function = types.FunctionType(
        parent.__code__, parent.__globals__, variable, None, parent.__closure__
    )
    reserved = Parameter(
        RUN_SUBFLOWS, Parameter.KEYWORD_ONLY, default=IN_PROCESS, annotation=_HOW
    )
    signature = Signature([*parameters, reserved])
    function.__signature__ = signature  # type: ignore[attr-defined]
    function.__annotations__ = {
        item.name: item.annotation for item in signature.parameters.values()
    }
    function.__module__ = module
    function.__qualname__ = variable
    function.__doc__ = description or None
    return Flow(
        function, name=plan.name, version=version, description=description or None
    )


__all__ = ["DEPLOYMENTS", "IN_PROCESS", "RUN_SUBFLOWS", "make_flow"]
