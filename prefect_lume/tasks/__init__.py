"""Prefect tasks to import in any flow: results, files, runs and the registry."""

from prefect_lume.tasks.files import load_file, save_file
from prefect_lume.tasks.mlflow import log_result_to_mlflow
from prefect_lume.tasks.pipelines import publish_digest, publish_run
from prefect_lume.tasks.registry import register_deployment, register_model
from prefect_lume.tasks.registry_page import publish_registry
from prefect_lume.tasks.results import (
    find_results,
    load_result,
    publish_result,
    store_result,
    store_results,
)

__all__ = [
    "find_results",
    "load_file",
    "load_result",
    "log_result_to_mlflow",
    "publish_digest",
    "publish_registry",
    "publish_result",
    "publish_run",
    "register_deployment",
    "register_model",
    "save_file",
    "store_result",
    "store_results",
]
