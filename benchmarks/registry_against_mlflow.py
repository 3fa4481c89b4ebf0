"""The registry against MLflow's, both on new SQLite files.

Run: ``python benchmarks/registry_against_mlflow.py [--rounds N]``. MLflow is used by
its own client on ``sqlite:///``; nothing goes over HTTP. Calls are timed in turns.

- *register*: a new model with its first deployment, made live; against
  ``create_registered_model``, ``create_model_version`` and
  ``set_registered_model_alias``.
- *live*: the live deployment with model, flow and project; against
  ``get_model_version_by_alias``. Both have 100 models of 10 versions.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event

from prefect_lume import migrations
from prefect_lume.registry import ModelDBService
from prefect_lume.storage import sql

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

MODELS, VERSIONS = 100, 10


@contextmanager
def sides() -> Iterator[tuple[ModelDBService, Any]]:
    """Give an empty registry of each side."""
    from mlflow import MlflowClient

    logging.getLogger("alembic").setLevel(logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="registry-mlflow-") as folder:
        engine = sql.get_engine(f"sqlite:///{Path(folder) / 'lume.db'}")
        registry = ModelDBService(engine, migrate=migrations.upgrade, actor="benchmark")
        registry.apply_schema()
        registry.store_project("injector", "what runs at the injector")
        uri = f"sqlite:///{Path(folder) / 'mlflow.db'}"
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        client.search_registered_models(max_results=1)
        yield registry, client
        engine.dispose()


def ours(registry: ModelDBService, name: str, versions: int = 1) -> int:
    model_id = registry.store_model(
        author=name,
        laboratory="slac",
        facility="lcls",
        beampath="cu_hxr",
        description="a model of the injector",
    )
    for version in range(1, versions + 1):
        registry.store_deployment(
            model_id=model_id,
            version=str(version),
            source=f"file:///models/{name}/{version}",
            sha256="ab" * 32,
            package_import_name="my_model",
        )
    return model_id


def theirs(client: Any, name: str, versions: int = 1) -> None:
    client.create_registered_model(name, description="a model of the injector")
    for version in range(1, versions + 1):
        client.create_model_version(name, f"file:///models/{name}/{version}")
        client.set_registered_model_alias(name, "champion", str(version))


def timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def compare(rounds: int) -> Iterator[tuple[str, float, float, str]]:
    """Yield what was compared, the target, how many times faster, and the times."""
    with sides() as (registry, client):
        ours(registry, "warm")
        theirs(client, "warm")
        one, other = [], []
        for number in range(rounds):
            name = f"new-{number}"
            one.append(timed(lambda name=name: ours(registry, name)))
            other.append(timed(lambda name=name: theirs(client, name)))
        yield "register, against MLflow (SQLite)", 5, *told(one, other)

    with sides() as (registry, client):
        ids = fill(registry, client)
        one, other = [], []
        for number in range(rounds):
            place = number * 7 % MODELS
            name = f"model-{place}"
            one.append(timed(lambda n=ids[place]: registry.get_live_deployment(n)))
            other.append(
                timed(lambda n=name: client.get_model_version_by_alias(n, "champion"))
            )
        yield "live deployment, against MLflow (SQLite)", 3, *told(one, other)


def fill(registry: ModelDBService, client: Any) -> list[int]:
    """Store the same models on both sides, and the flows that ours has besides."""
    ids = []
    for number in range(MODELS):
        ids.append(ours(registry, f"model-{number}", VERSIONS))
        theirs(client, f"model-{number}", VERSIONS)
        live = registry.get_live_deployment(ids[-1])
        registry.store_flow(
            flow_id=f"flow-{number}",
            flow_name=f"flow {number}",
            project_name="injector",
            deployment_id=live.deployment_id,
        )
    return ids


def told(one: list[float], other: list[float]) -> tuple[float, str]:
    mine, peer = statistics.median(one), statistics.median(other)
    return peer / mine, f"{mine * 1e3:.2f} ms against {peer * 1e3:.2f} ms"


def statements() -> int:
    """Return how many statements give the live deployment with all that it has."""
    with tempfile.TemporaryDirectory(prefix="registry-mlflow-") as folder:
        engine = sql.get_engine(f"sqlite:///{Path(folder) / 'lume.db'}")
        registry = ModelDBService(engine, migrate=migrations.upgrade)
        registry.apply_schema()
        model_id = ours(registry, "one")
        sent: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
            if not statement.startswith("BEGIN"):
                sent.append(statement)

        event.listen(engine, "before_cursor_execute", note)
        registry.get_live_deployment(model_id)
        engine.dispose()
        return len(sent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=200)
    for what, target, ratio, detail in compare(parser.parse_args().rounds):
        print(f"{what:<44} {ratio:5.1f} times faster (>= {target:g}): {detail}")


if __name__ == "__main__":
    main()
