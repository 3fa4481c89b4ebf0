"""A flow that takes part in a flow-of-flows made in Python."""

from __future__ import annotations

from typing import Any

from prefect import Flow

from prefect_lume.composition import ComposingFlow


class Subflow:
    """A flow that takes part in a flow-of-flows made in Python.

    Args:
        flow: The flow.
        name: Its name inside the parent; by default the flow's own.
        **options: The other fields of a `ComposingFlow`: `position`,
            `mapped_parameters`, `parameters`, `prefect_deployment`, `project_name`,
            `labels`.

    Raises:
        CompositionError: An option is not one of these, or does not fit.

    Example:
        ```python
        Subflow(second, mapped_parameters={"value": {"parent_flow_name": "first"}})
        ```
    """

    def __init__(
        self, flow: Flow[..., Any], name: str | None = None, **options: Any
    ) -> None:
        self.flow = flow
        self.composing = ComposingFlow.model_validate(
            {"name": name or flow.name, "flow_name": flow.name, **options}
        )
