"""Tasks that store and load results."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_lume.config import open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import InvalidInputError, clip
from prefect_lume.results import Result, ResultReference
from prefect_lume.tasks._artifacts import publish
from prefect_lume.tasks._references import as_result_reference
from prefect_lume.tasks._run import Provenance, provenance


@task(name="store_result", cache_policy=NO_CACHE)
def store_result(
    inputs: dict[str, Any],
    outputs: dict[str, Any],
    *,
    result_type: type[Result] = Result,
    project_name: str | None = None,
    on_duplicate: Literal["return", "raise", "replace"] = "return",
    services: LumeServices | str | None = None,
    artifact: bool = False,
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
        artifact: Whether the run gets a Prefect artifact that shows the result: a
            table of its values, and a picture of its arrays if matplotlib is
            installed. See `publish_result`.
        **fields: Further fields of `result_type`, for example `archive`.

    Returns:
        The small reference by which `load_result` finds the document again.

    Raises:
        EncodingError: A value cannot be stored; the message names its place.
        InvalidInputError: An argument is not allowed.
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
    result = _maker(result_type, run)(inputs, outputs, **fields)
    reference = context.results_db_service().store(result, on_duplicate=on_duplicate)
    if artifact:
        publish(result)
    return reference


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


@task(name="store_results", cache_policy=NO_CACHE)
def store_results(
    items: Iterable[tuple[dict[str, Any], dict[str, Any]]],
    *,
    result_type: type[Result] = Result,
    project_name: str | None = None,
    on_duplicate: Literal["return", "raise", "replace"] = "return",
    services: LumeServices | str | None = None,
) -> list[ResultReference]:
    """Store many results of this run at once, for example the points of a scan.

    Args:
        items: Pairs of inputs and outputs, each as in `store_result`.
        result_type: The documents' class.
        project_name: The collection; by default the project of the running flow.
        on_duplicate: As in `store_result`, for each of them.
        services: The services Block, its name, or nothing for the default.

    Returns:
        A reference for each pair, in the same order.

    Raises:
        InvalidInputError: One of them is no pair; those before it are stored.
        LumeError: One of them could not be stored: the first one's error, which says
            in a note how many failed. The others are stored.

    Example:
        ```python
        from prefect import flow
        from prefect_lume.tasks import store_results

        @flow
        def scan():
            return store_results([({"k": k}, {"y": k * k}) for k in range(1000)])
        ```
    """
    context = open_context(services)
    run = provenance(context, project_name)
    make = _maker(result_type, run)
    given = (make(inputs, outputs) for inputs, outputs in _pairs(items))
    outcomes = context.results_db_service().store_many(given, on_duplicate)
    errors = {n: o.error for n, o in enumerate(outcomes) if o.error is not None}
    for place, error in errors.items():
        error.add_note(
            f"This is item {place}; {len(errors)} of {len(outcomes)} items could not "
            f"be stored, the others are."
        )
        raise error
    return [o.reference for o in outcomes if o.reference is not None]


def _maker(result_type: type[Result], run: Provenance) -> Callable[..., Result]:
    """Return what makes a result of this run out of inputs and outputs."""
    given: object = result_type
    if not (isinstance(given, type) and issubclass(given, Result)):
        raise InvalidInputError(
            f"result_type is Result or a class derived from it, not "
            f"{clip(repr(given), 80)}."
        )

    def make(inputs: dict[str, Any], outputs: dict[str, Any], **fields: Any) -> Result:
        return result_type(
            project_name=run.project_name,
            flow_id=run.flow_id,
            flow_run_id=run.flow_run_id,
            deployment_id=run.deployment_id,
            inputs=inputs,
            outputs=outputs,
            **fields,
        )

    return make


def _pairs(items: object) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    if not isinstance(items, Iterable):
        raise InvalidInputError(
            f"items are pairs of inputs and outputs, not {clip(repr(items), 80)}."
        )
    for place, item in enumerate(items):
        match item:
            case (dict(inputs), dict(outputs)):
                yield inputs, outputs
            case _:
                raise InvalidInputError(
                    f"Item {place} is {clip(repr(item), 80)}: each is a pair of two "
                    f"dicts, inputs and outputs."
                )


@task(name="find_results", cache_policy=NO_CACHE, persist_result=False)
def find_results(
    query: dict[str, Any] | None = None,
    *,
    project_name: str | None = None,
    result_type: type[Result] | str | None = None,
    sort: str | list[str] | None = None,
    limit: int | None = None,
    lazy: bool = False,
    services: LumeServices | str | None = None,
) -> list[Any]:
    """Find stored results by a query.

    Args:
        query: In MongoDB's language, for example `{"inputs.charge": {"$gt": 1e-9}}`;
            nothing means all results of the project.
        project_name: The project; by default that of the running flow.
        result_type: Only results of this type.
        sort: Field names, `-name` for descending order; by default by date, the
            oldest first.
        limit: The most results to return.
        lazy: Whether large values stay in the database until their `load()`.
        services: The services Block, its name, or nothing for the default.

    Returns:
        The documents. `[r.reference() for r in ...]` is small enough to be passed on.

    Raises:
        QueryError: The query is outside the language.
        NotFoundError: The project has no results at all.
    """
    context = open_context(services)
    project = project_name or provenance(context).project_name
    return list(
        context.results_db_service().find(
            project, query, result_type=result_type, sort=sort, limit=limit, lazy=lazy
        )
    )


@task(name="publish_result", cache_policy=NO_CACHE)
def publish_result(
    reference: ResultReference | dict[str, Any],
    *,
    key: str | None = None,
    plot: bool = True,
    services: LumeServices | str | None = None,
) -> None:
    """Show a stored result in the Prefect UI, as artifacts of the run that made it.

    A table of its values and where it comes from; and, where the result holds arrays
    or tables and matplotlib is installed, a picture of them.

    Args:
        reference: What `store_result` returned, or its JSON form.
        key: The artifacts' key: small letters, digits and dashes. Artifacts of one key
            are versions of each other. By default each result has its own.
        plot: Whether to draw a picture.
        services: The services Block, its name, or nothing for the default.

    Raises:
        NotFoundError: There is no such result.
        InvalidInputError: The key has another form.
    """
    found = as_result_reference(reference)
    whole = found.model_copy(update={"attribute": None, "attribute_index": None})
    result = open_context(services).results_db_service().load(whole, lazy=True)
    publish(result, key=key, plot=plot)
