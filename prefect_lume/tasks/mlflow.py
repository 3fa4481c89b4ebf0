"""A task that logs a stored result to MLflow."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_lume.config import open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.results import ResultReference


@task(name="log_result_to_mlflow", cache_policy=NO_CACHE)
def log_result_to_mlflow(
    reference: ResultReference,
    tracking_uri: str,
    *,
    run_id: str | None = None,
    experiment: str = "Default",
    run_name: str | None = None,
    services: LumeServices | str | None = None,
) -> str:
    """Log a stored result to an MLflow run, once.

    Numbers among the outputs become metrics, inputs become parameters, and tags tell
    project, unique hash, deployment and flow run. Needs the extra `mlflow`.

    Args:
        reference: What `store_result` returned.
        tracking_uri: Where MLflow is, for example `http://host:5000`. A password does
            not belong here, where Prefect keeps parameters: MLflow takes it from
            `MLFLOW_TRACKING_USERNAME` and `MLFLOW_TRACKING_PASSWORD`.
        run_id: An MLflow run to log to; by default the one that this result was logged
            to before, else a new one.
        experiment: The experiment of a new run.
        run_name: The name of a new run.
        services: The services Block, its name, or nothing for the default.

    Returns:
        The MLflow run's id.

    Raises:
        MissingDependencyError: MLflow is not installed.
        NotFoundError: There is no such run or result.
        StorageError: MLflow cannot be used.

    Example:
        ```python
        from prefect import flow
        from prefect_lume.tasks import log_result_to_mlflow, store_result

        @flow
        def simulate(charge: float) -> None:
            reference = store_result({"charge": charge}, {"emittance": 1e-6})
            log_result_to_mlflow(reference, "sqlite:///mlflow.db")
        ```
    """
    from prefect_lume.bridge import log_result

    return log_result(
        reference,
        tracking_uri,
        open_context(services),
        run_id=run_id,
        experiment=experiment,
        run_name=run_name,
    )
