"""What a subflow is called with: constants, the parent's parameters, mapped values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect_lume.composer import results, values
from prefect_lume.composer.plan import Step
from prefect_lume.config import open_context
from prefect_lume.errors import InvalidInputError, LumeError
from prefect_lume.results import FileReference, ResultReference
from prefect_lume.serializer import type_name

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import FlowRun

    from prefect_lume.composer.keeping import Noted
    from prefect_lume.composition import MappedParameter


@dataclass(frozen=True)
class _Want:
    """What a mapped parameter wants: its mapping, and whether it takes references."""

    mapped: MappedParameter
    reference: bool
    services: Any


def parameters(
    step: Step,
    given: Mapping[str, Any],
    finished: Mapping[str, FlowRun],
    noted: Callable[[UUID], Noted | None],
    services: Any = None,
) -> dict[str, Any]:
    """Return the parameters of a subflow.

    Args:
        step: The subflow.
        given: The parent's own parameters.
        finished: The completed runs of the subflows before it.
        noted: Flow run id → where the results of its tasks are, as far as known.
        services: The services with which stored results are loaded.

    Raises:
        InvalidInputError: A mapped value cannot be had, is of the wrong kind or too
            large; the message names the parameter, the subflow and the task.
    """
    called = dict(step.constants)
    for parameter, source in step.exposed.items():
        if source in given:
            called[parameter] = given[source]
    for parameter, mapped in step.mapped.items():
        run = finished[mapped.parent_flow_name]
        found = noted(run.id)
        called[parameter] = _mapped(step, parameter, mapped, run, found, services)
    return called


def _mapped(
    step: Step,
    parameter: str,
    mapped: MappedParameter,
    run: FlowRun,
    noted: Noted | None,
    services: Any,
) -> Any:
    where = f"the parameter {parameter!r} of the subflow {step.name!r}"
    task = mapped.parent_task_name
    origin = f"the task {task!r}" if task else "the return value"
    source = f"{origin} of the subflow {mapped.parent_flow_name!r}"
    try:
        value = results.returned(run, task, noted)
        convert = _BY_KIND[mapped.map_type]
        want = _Want(mapped, parameter in step.references, services)
        form = convert(value, want)
    except LumeError as error:
        raise InvalidInputError(
            f"{where} cannot be fed from {source} (map_type {mapped.map_type}): {error}"
        ) from error
    _check_size(form, where, source)
    return form


def _check_size(form: Any, where: str, source: str) -> None:
    size = values.size(form)
    if size > values.LARGEST:
        raise InvalidInputError(
            f"{where} would be fed {size:,} bytes from {source}, and Prefect takes at "
            f"most {values.LARGEST:,} as the parameters of a run. Store the value with "
            f"store_result, map it as db, and annotate the parameter as "
            f"ResultReference: the subflow then loads it with load_result."
        )


def _raw(value: Any, _want: _Want) -> Any:
    return values.json_form(value)


def _file(value: Any, _want: _Want) -> Any:
    reference = _as(FileReference, value)
    if reference is None:
        raise InvalidInputError(_wrong_kind(value, "FileReference", "save_file"))
    return reference.model_dump(mode="json")


def _db(value: Any, want: _Want) -> Any:
    reference = _as(ResultReference, value)
    if reference is None:
        raise InvalidInputError(_wrong_kind(value, "ResultReference", "store_result"))
    mapped = want.mapped
    if mapped.attribute is not None or mapped.attribute_index:
        reference = reference.narrowed(mapped.attribute, mapped.attribute_index)
    if want.reference:
        return reference.model_dump(mode="json")
    service = open_context(want.services).results_db_service()
    if reference.attribute is None and not reference.attribute_index:
        found = service.load(reference)
        return values.json_form({"inputs": found.inputs, "outputs": found.outputs})
    return values.json_form(service.load_value(reference))


_BY_KIND: Mapping[str, Callable[[Any, _Want], Any]] = {
    "raw": _raw,
    "file": _file,
    "db": _db,
}


def _as(kind: type[Any], value: Any) -> Any:
    if isinstance(value, kind):
        return value
    if isinstance(value, Mapping) and set(value) == set(kind.model_fields):
        return kind.model_validate(dict(value))
    return None


def _wrong_kind(value: Any, wanted: str, maker: str) -> str:
    return (
        f"it returned a value of type {type_name(value)}, not a {wanted}. "
        f"Return what {maker} returns, or map it as raw."
    )
