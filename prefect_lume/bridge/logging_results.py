"""Logs a stored result to an MLflow run."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator
from typing import Any, Final

from prefect_lume._optional import require
from prefect_lume.bridge.client import open_client, translated
from prefect_lume.config import Context
from prefect_lume.errors import InvalidInputError
from prefect_lume.results import Result, ResultReference
from prefect_lume.results.describing import describe
from prefect_lume.results.flattening import flatten

#: What MLflow takes: characters of a name and of a parameter's value, and how many of
#: each kind in one request.
_NAME: Final = 250
_PARAM: Final = 6_000
_METRICS: Final = 1_000
_PARAMS: Final = 100
_TAG: Final = "lume.unique_hash"
#: Tells runs that were made for a result, and end with it.
_OURS: Final = "lume.run"


def log_result(
    result: Result | ResultReference,
    tracking_uri: str,
    context: Context,
    *,
    run_id: str | None = None,
    experiment: str = "Default",
    run_name: str | None = None,
) -> str:
    """Log a stored result to an MLflow run, once.

    Numbers among the outputs become metrics, with dotted names where they are nested;
    inputs become parameters. Tags tell project, unique hash, deployment and flow run.

    Args:
        result: The result, or its reference.
        tracking_uri: Where MLflow is.
        context: The services that know the result.
        run_id: An MLflow run to log to. Left out: the run of the experiment that this
            result was logged to before, else a new one.
        experiment: The experiment of a new run; made if there is none.
        run_name: The name of a new run; by default that of the result's type.

    Returns:
        The MLflow run's id.

    Raises:
        MissingDependencyError: MLflow is not installed.
        NotFoundError: There is no such run, or no such result.
        InvalidInputError: Two values have one name in MLflow.
        StorageError: MLflow cannot be used.
    """
    client = open_client(tracking_uri)
    document: Result = (
        context.results_db_service().load(result)
        if isinstance(result, ResultReference)
        else result
    )
    metrics, params = _values(document)
    with translated(tracking_uri):
        if run_id is None:
            run_id = _run(client, document, experiment, run_name)
        if client.get_run(run_id).data.tags.get(_TAG) == document.unique_hash:
            return run_id
        when = int(document.date_modified.timestamp() * 1000)
        _log(client, run_id, when, metrics, params, _tags(context, document))
        if client.get_run(run_id).data.tags.get(_OURS):
            client.set_terminated(run_id)
    return run_id


def _run(client: Any, result: Result, experiment: str, run_name: str | None) -> str:
    found = client.get_experiment_by_name(experiment)
    number = found.experiment_id if found else client.create_experiment(name=experiment)
    known = client.search_runs(
        [number], f"tags.`{_TAG}` = '{result.unique_hash}'", max_results=1
    )
    if known:
        return str(known[0].info.run_id)
    name = run_name or result.type_name
    run = client.create_run(number, run_name=name, tags={_OURS: "true"})
    return str(run.info.run_id)


def _log(
    client: Any,
    run_id: str,
    when: int,
    metrics: dict[str, float],
    params: dict[str, str],
    tags: dict[str, str],
) -> None:
    entities = require("mlflow.entities", "The bridge to MLflow")
    for some in _portions(metrics, _METRICS):
        rows = [entities.Metric(name, value, when, 0) for name, value in some]
        client.log_batch(run_id, metrics=rows)
    for some_params in _portions(params, _PARAMS):
        texts = [entities.Param(name, value) for name, value in some_params]
        client.log_batch(run_id, params=texts)
    # Last: it says that all of it is there.
    labels = [entities.RunTag(name, value) for name, value in tags.items()]
    client.log_batch(run_id, tags=labels)


def _portions(values: dict[str, Any], size: int) -> Iterator[list[tuple[str, Any]]]:
    items = list(values.items())
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _values(result: Result) -> tuple[dict[str, float], dict[str, str]]:
    metrics: dict[str, float] = {}
    params: dict[str, str] = {}
    for path, value in flatten(result):
        where, _, name = path.partition(".")
        key = _name(name or where)
        if where == "outputs" and _is_number(value):
            _once(metrics, key, float(value))
        elif where == "inputs":
            _once(params, key, describe(value, limit=_PARAM))
    return metrics, params


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return False
    try:
        return not math.isnan(float(value))
    except OverflowError:
        return False


def _once(values: dict[str, Any], key: str, value: Any) -> None:
    if key in values:
        raise InvalidInputError(
            f"Two values of the result are called {key!r} in MLflow, which knows "
            f"letters, digits, '_', '-', '.', '/' and spaces only. Rename one of them."
        )
    values[key] = value


def _name(path: str) -> str:
    """Return a name as MLflow takes it.

    Example:
        >>> _name("beam.size (mm)")
        'beam.size _mm_'
    """
    known = "".join(
        c if (c.isascii() and c.isalnum()) or c in "_-./ " else "_" for c in path
    )
    return known[:_NAME]


def _tags(context: Context, result: Result) -> dict[str, str]:
    found = _deployment(context, result.deployment_id)
    found |= {
        _TAG: result.unique_hash,
        "lume.project": result.project_name,
        "lume.result_type": result.type_name,
        "lume.flow_run_id": result.flow_run_id or "",
        "lume.deployment_id": str(result.deployment_id or ""),
    }
    return {name: value for name, value in found.items() if value}


def _deployment(context: Context, number: int | None) -> dict[str, str]:
    """Return the tags that tell of the deployment, as far as the registry has it."""
    if number is None:
        return {}
    known = context.model_db_service().get_deployments(deployment_id=number)
    return {
        name: value
        for record in known
        for name, value in (
            ("lume.deployment_version", record.version),
            ("lume.deployment_sha256", record.sha256),
        )
    }
