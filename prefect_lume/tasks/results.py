"""Tasks that store and load results."""

from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_lume.config import open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.results import Result, ResultReference
from prefect_lume.tasks._references import as_result_reference
from prefect_lume.tasks._run import provenance


@task(name="store_result", cache_policy=NO_CACHE)
def store_result(
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    *,
    result_type: type[Result] = Result,
    project_name: str | None = None,
    on_duplicate: Literal["return", "raise", "replace"] = "return",
    services: LumeServices | str | None = None,
    **fields: Any,
) -> ResultReference:
    """Store what went into and came out of this run, as one result document.

    Flow, flow run, project and deployment come from the run itself.

    Args:
        inputs: What went in: names → values (numbers, text, arrays, tables, files...).
        outputs: What came out, likewise.
        result_type: The document's class: `Result`, `ImpactResult` or your own.
        project_name: The collection; by default the project of the running flow.
        on_duplicate: What to do when this very result is stored already: `return` the
            first one's reference, `raise`, or `replace` it.
        services: The services Block, its name, or nothing for the default.
        **fields: Further fields of `result_type`, for example `archive`.

    Returns:
        The small reference by which `load_result` finds the document again.

    Raises:
        EncodingError: A value cannot be stored; the message names its place.
        ConflictError: It is stored already, and `on_duplicate` is `raise`.
        StorageError: The results database cannot be used.

    Example:
        ```python
        from prefect import flow
        from prefect_lume.tasks import load_result, store_result

        @flow
        def square(x: float) -> float:
            reference = store_result({"x": x}, {"y": x * x})
            return load_result(reference, attribute_index=["outputs", "y"])
        ```
    """
    context = open_context(services)
    run = provenance(context, project_name)
    result = result_type(
        project_name=run.project_name,
        flow_id=run.flow_id,
        flow_run_id=run.flow_run_id,
        deployment_id=run.deployment_id,
        inputs=inputs,
        outputs=outputs,
        **fields,
    )
    return context.results_db_service().store(result, on_duplicate=on_duplicate)


# Not persisted: what it returns is in the results database already.
@task(name="load_result", cache_policy=NO_CACHE, persist_result=False)
def load_result(
    reference: ResultReference | dict[str, Any],
    attribute_index: list[str | int] | None = None,
    *,
    attribute: str | None = None,
    services: LumeServices | str | None = None,
) -> Any:
    """Load a stored result, or one value of it.

    Args:
        reference: What `store_result` returned, or its JSON form.
        attribute_index: The path of one value, for example `["outputs", "sigma_x"]`;
            below `attribute` if that is given; below the reference's own path, if it
            has one. Nothing loads the whole document.
        attribute: The field that `attribute_index` starts at, for example `outputs`.
        services: The services Block, its name, or nothing for the default.

    Returns:
        The document (a `Result` or its subclass), or the value at that path.

    Raises:
        NotFoundError: There is no such result, or it has no such value.
        IntegrityError: What is stored is not what its hash says.
        InvalidInputError: The reference cannot be read.
    """
    found = as_result_reference(reference)
    if attribute is not None or attribute_index:
        found = found.narrowed(attribute, attribute_index)
    service = open_context(services).results_db_service()
    if found.attribute is None and not found.attribute_index:
        return service.load(found)
    return service.load_value(found)
