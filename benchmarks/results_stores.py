"""How fast results are stored and loaded, against the bare database and MLflow.

Run: ``python benchmarks/results_stores.py``. With ``LUME_TEST_MONGODB_URL`` set (see
tests/README.md) the MongoDB part runs too; with MLflow installed (in an environment of
its own if you like: nothing of Prefect is needed) the comparison with it, with MLflow
on files of this machine, and with a server that passes artifacts on, as a laboratory of
several machines needs it. Each row takes turns between the two sides in
one run and compares medians, so that the machine's drift meets both alike. Exit status
1 when a target is missed; a part that could not run is named.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gridfs
import numpy as np

from prefect_lume.results import Result, ResultsService
from prefect_lume.results.documents import to_document
from prefect_lume.results.stores import MongoDBService, SQLDBService
from prefect_lume.storage import mongo, sql

MEGABYTES_8 = 1 << 20  # float64 numbers
SMALL = {f"x{n}": n * 1.1 for n in range(8)} | {"name": "golden", "turns": 512}

Call = Callable[[], object]


def result(**inputs: object) -> Result:
    """Return a small result: ten inputs, ten outputs, an id of its run."""
    outputs = {f"y{n}": np.pi * n for n in range(10)}
    run = str(uuid.uuid4())
    return Result(
        project_name="bench",
        flow_run_id=run,
        inputs={**SMALL, **inputs},
        outputs=outputs,
    )


def paired(ours: Call, theirs: Call, rounds: int) -> tuple[float, float]:
    """Return the median seconds of two calls that take turns."""
    seconds: dict[Call, list[float]] = {ours: [], theirs: []}
    for turn in range(rounds + 1):
        for call in (ours, theirs) if turn % 2 else (theirs, ours):
            start = time.perf_counter()
            call()
            if turn:  # The first round warms up.
                seconds[call].append(time.perf_counter() - start)
    return statistics.median(seconds[ours]), statistics.median(seconds[theirs])


@contextmanager
def sqlite() -> Iterator[ResultsService]:
    """Yield a service on a new SQLite file."""
    with tempfile.TemporaryDirectory() as folder:
        engine = sql.get_engine(f"sqlite:///{folder}/results.db")
        store = SQLDBService(engine)
        store.create_tables()
        yield ResultsService(store)
        engine.dispose()


@contextmanager
def mongodb(url: str) -> Iterator[tuple[ResultsService, object]]:
    """Yield a service on a new database, and the database."""
    client = mongo.get_client(url)
    database = client[f"bench_{uuid.uuid4().hex[:8]}"]
    try:
        yield ResultsService(MongoDBService(database)), database
    finally:
        client.drop_database(database.name)


class Report:
    """Prints rows and remembers whether a target was missed."""

    def __init__(self) -> None:
        self.missed = False
        print(f"{'what':58} {'ours':>10} {'theirs':>10} {'ratio':>7}  target")

    def row(
        self, what: str, ours: float, theirs: float, least: float = 0, most: float = 0
    ) -> None:
        """Show two figures; their quotient is at least or at most something."""
        ratio = ours / theirs
        good = ratio >= least and (not most or ratio <= most)
        self.missed |= not good
        target = f">= {least}" if least else f"<= {most}"
        shown = f"{what:58} {ours:10.4g} {theirs:10.4g} {ratio:7.2f}  {target}"
        print(shown + ("" if good else "  MISSED"), flush=True)


def measure_mongodb(report: Report, url: str, rounds: int) -> None:
    """Small results one by one and in batches, and an 8 MB array."""
    with mongodb(url) as (service, database):
        service.store(result())

        def one() -> Call:
            given = iter([result(n=n) for n in range(100 * (rounds + 1))])
            return lambda: [service.store(next(given)) for _ in range(100)]

        def one_raw() -> Call:
            made = [to_document(result(n=n)).tree for n in range(100 * (rounds + 1))]
            given = iter(made)
            raw = database["bench"]
            return lambda: [raw.insert_one(next(given)) for _ in range(100)]

        ours, theirs = paired(one(), one_raw(), rounds)
        report.row(
            "store, per second | insert_one", 100 / ours, 100 / theirs, least=0.8
        )

        size = 2000

        def many() -> Call:
            sets = iter([[result() for _ in range(size)] for _ in range(rounds + 1)])
            return lambda: service.store_many(next(sets))

        def many_raw() -> Call:
            sets = iter(
                [
                    [to_document(result()).tree for _ in range(size)]
                    for _ in range(rounds + 1)
                ]
            )
            raw = database["bench"]
            return lambda: raw.insert_many(next(sets))

        ours, theirs = paired(many(), many_raw(), rounds)
        what = "store_many, per second | insert_many"
        report.row(what, size / ours, size / theirs, least=0.7)

        bucket = gridfs.GridFSBucket(database, "raw")
        most = 2 * rounds + 1
        ours, theirs = paired(array(service, most), array_gridfs(bucket, most), most)
        what = "8 MB array: store + load, s | GridFS put + get"
        report.row(what, ours, theirs, most=1.15)


def arrays(rounds: int) -> Iterator[np.ndarray]:
    """Return new arrays of 8 MB, made beforehand."""
    return iter([np.random.default_rng().random(MEGABYTES_8) for _ in range(rounds)])


def array(service: ResultsService, rounds: int) -> Call:
    """Return what stores and loads a new array of 8 MB."""
    given = arrays(rounds + 1)

    def call() -> None:
        values = next(given)
        reference = service.store(Result(project_name="arrays", outputs={"a": values}))
        loaded = service.load(reference).outputs["a"]
        assert loaded[-1] == values[-1]

    return call


def array_gridfs(bucket: gridfs.GridFSBucket, rounds: int) -> Call:
    """Return what puts and gets a new array of 8 MB in GridFS."""
    given = arrays(rounds + 1)

    def call() -> None:
        values = next(given)
        key = bucket.upload_from_stream("a", values.tobytes())
        loaded = np.frombuffer(bucket.open_download_stream(key).read())
        assert loaded[-1] == values[-1]

    return call


def measure_mlflow(report: Report, rounds: int) -> None:
    """Small results in batches, and an 8 MB array, both embedded on SQLite."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    with tempfile.TemporaryDirectory() as folder, sqlite() as service:
        uri = f"sqlite:///{folder}/mlflow.db"
        client = MlflowClient(tracking_uri=uri)
        experiment = client.create_experiment("bench", f"file://{folder}/artifacts")
        size, few = 2000, 20
        sets = iter([[result() for _ in range(size)] for _ in range(rounds + 1)])

        def ours() -> None:
            service.store_many(next(sets))

        def theirs() -> None:
            for _ in range(few):
                run = client.create_run(experiment).info.run_id
                now = int(time.time() * 1000)
                metrics = [Metric(f"y{n}", np.pi * n, now, 0) for n in range(10)]
                params = [Param(name, str(value)) for name, value in SMALL.items()]
                client.log_batch(run, metrics, params)
                client.set_terminated(run)

        mine, other = paired(ours, theirs, rounds)
        what = "SQLite: store_many, per second | MLflow runs"
        report.row(what, size / mine, few / other, least=20)
        measure_artifacts(report, "embedded", service, uri, folder, rounds)


def measure_artifacts(
    report: Report,
    where: str,
    service: ResultsService,
    uri: str,
    folder: str,
    rounds: int,
) -> None:
    """Store and load an array here, and as an artifact of a new MLflow run."""
    from mlflow import MlflowClient
    from mlflow.artifacts import download_artifacts

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("bench").experiment_id
    most = 2 * rounds + 1
    given = arrays(most + 1)
    runs = iter([client.create_run(experiment) for _ in range(most + 1)])

    def artifact() -> None:
        values, run = next(given), next(runs).info.run_id
        path = Path(folder, "a.npy")
        np.save(path, values)
        client.log_artifact(run, str(path))
        found = download_artifacts(
            run_id=run, artifact_path="a.npy", dst_path=folder, tracking_uri=uri
        )
        assert np.load(found)[-1] == values[-1]

    mine, other = paired(array(service, most), artifact, most)
    what = f"{where}: 8 MB array: store + load, s | MLflow artifact"
    report.row(what, mine, other, most=0.5)


@contextmanager
def mlflow_server(folder: str) -> Iterator[str]:
    """Run an MLflow server that passes artifacts on, and yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = (
        f"{sys.executable} -m mlflow server --host 127.0.0.1 --port {port} --workers 1 "
        f"--backend-store-uri sqlite:///{folder}/server.db "
        f"--artifacts-destination {folder}/server-artifacts"
    )
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command.split(), stdout=quiet, stderr=quiet)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).close()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the MLflow server did not start") from None
                time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(30)


def measure_servers(report: Report, url: str, rounds: int) -> None:
    """An 8 MB array in MongoDB, against a server of MLflow."""
    import mlflow.server  # noqa: F401 - the full package, not mlflow-skinny.
    from mlflow import MlflowClient

    with (
        tempfile.TemporaryDirectory() as folder,
        mlflow_server(folder) as address,
        mongodb(url) as (service, _),
    ):
        MlflowClient(tracking_uri=address).create_experiment("bench")
        measure_artifacts(report, "servers", service, address, folder, rounds)


def main() -> int:
    """Measure what there are servers and packages for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="pairs of each row")
    parser.add_argument("--only", choices=["mongodb", "mlflow"])
    options = parser.parse_args()
    report, left_out = Report(), []
    url = os.environ.get("LUME_TEST_MONGODB_URL", "")
    if options.only != "mlflow":
        if url:
            measure_mongodb(report, url, options.rounds)
        else:
            left_out.append("MongoDB (LUME_TEST_MONGODB_URL is not set)")
    if options.only != "mongodb":
        try:
            measure_mlflow(report, options.rounds)
            if url:
                measure_servers(report, url, options.rounds)
        except ModuleNotFoundError as error:
            left_out.append(f"MLflow ({error})")
    for part in left_out:
        print(f"left out: {part}")
    return int(report.missed or bool(left_out))


if __name__ == "__main__":
    sys.exit(main())
