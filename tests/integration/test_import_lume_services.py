"""``prefect-lume import lume-services``, over a server of MongoDB's protocol."""

import datetime as dt
import json
import os
import pickle

import bson
import numpy as np
import pandas as pd
import pytest
from bson import Binary, ObjectId
from bson.raw_bson import RawBSONDocument
from click.testing import CliRunner

from prefect_lume.cli.import_ import command
from prefect_lume.config import configure, open_context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import (
    ConfigurationError,
    ConnectionFailedError,
    InvalidInputError,
    NotFoundError,
)
from prefect_lume.results import ResultsService
from prefect_lume.results.importing import import_lume_services
from prefect_lume.results.stores import MongoDBService, SQLDBService
from prefect_lume.storage import mongo
from prefect_lume.storage.sql import get_engine

WHEN = dt.datetime(2022, 8, 1, 10, tzinfo=dt.UTC)


class Hostile:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return (os.system, ("touch pwned",))


def pickled(value):
    return Binary(pickle.dumps(value, protocol=2))


def document(number, **fields):
    """One result as the last version of LUME-services stored it."""
    return {
        "flow_id": f"flow-{number % 3}",
        "inputs": {"number": number, "beam.x": 0.5},
        "outputs": {
            "wave": pickled(np.arange(number % 7, dtype="f4")),
            "table": pd.DataFrame({"a": [number]}).to_json(),
        },
        "date_modified": WHEN + dt.timedelta(seconds=number),
        "unique_hash": f"{number:032x}",
        "result_type_string": "lume_services.results.generic.Result",
        "collection": "injector",
        **fields,
    }


@pytest.fixture
def source(mongodb_url):
    """A LUME-services database of three generations, with broken documents."""
    database = mongo.get_client(mongodb_url).get_default_database()
    database["injector"].insert_many([document(number) for number in range(1200)])
    database["injector"].create_index([("flow_id", -1), ("unique_hash", -1)])
    database["Impact"].insert_one(
        {
            "_cls": "ResultDocument.ImpactResultDocument",
            "flow_id": "f",
            "inputs": {"a": 1},
            "outputs": {"b": [1.5]},
            "date_modified": WHEN,
            "unique_result_hash": "ab",
            "archive": "/data/archive.h5",
            "plot_file": "/data/plot.png",
            "pv_collection_isotime": WHEN,
            "config": {"steps": 7},
        }
    )
    database["broken"].insert_many(
        [
            document(1, _id=1, outputs={"x": pickled(Hostile())}),
            document(2, _id=2, inputs="none"),
            document(3, _id=3, inputs={"when": bson.datetime_ms.DatetimeMS(10**16)}),
            document(4, _id="4"),
        ]
    )
    return database


@pytest.fixture
def embedded(tmp_path):
    """The embedded services in a folder of their own."""
    configure(LumeServices(home=str(tmp_path / "home")))
    yield open_context().results_db_service()
    configure(None)


def run(*arguments, code=0, **options):
    result = CliRunner().invoke(command, ["lume-services", *arguments], **options)
    assert result.exit_code == code, result.output
    return result


def test_a_database_of_every_generation_is_taken_over(
    source, mongodb_url, embedded, tmp_path, monkeypatch
):
    """The command stores what can be read, names the rest, and repeats nothing."""
    monkeypatch.chdir(tmp_path)
    arguments = ["--source-uri", mongodb_url, "--allow-pickle", "--json"]
    told = json.loads(run(*arguments, code=1).stdout)
    assert told["total"] == {"read": 1205, "stored": 1202, "present": 0, "failed": 3}
    assert {p["id"]: p["path"] for p in told["problems"]} == {
        "1": "outputs.x",
        "2": "inputs",
        "3": "inputs.when",
    }
    assert "'posix.system'" in told["problems"][0]["reason"]
    assert not (tmp_path / "pwned").exists()

    told = json.loads(run(*arguments, code=1).stdout)
    assert told["total"] == {"read": 1205, "stored": 0, "present": 1202, "failed": 3}
    assert embedded.count("injector") == 1200
    (found,) = embedded.find("injector", {"lume_services.unique_hash": f"{12:032x}"})
    assert found.inputs == {"number": 12, "beam.x": 0.5}
    assert found.outputs["wave"].tolist() == [0, 1, 2, 3, 4]
    assert found.outputs["wave"].dtype == np.dtype("f4")
    assert found.outputs["table"]["a"].tolist() == [12]
    assert found.date_modified == WHEN + dt.timedelta(seconds=12)
    stored = source["injector"].find_one({"inputs.number": 12})
    assert found.lume_services["_id"] == str(stored["_id"])
    assert found.verify() is found
    assert embedded.count("Impact", result_type="Impact") == 1
    assert source["injector"].count_documents({}) == 1200


def test_into_a_mongodb_results_database(source, mongodb_url):
    """The results may go to another database of the same server, and not to this."""
    client = source.client
    name = f"{source.name}_target"
    service = ResultsService(MongoDBService(client[name]))
    try:
        report = import_lume_services(source, service, allow_pickle=True)
        assert report.total.stored == 1202
        again = import_lume_services(source, service, allow_pickle=True, dry_run=True)
        assert (again.total.stored, again.total.present) == (0, 1202)
        assert service.count("injector", {"lume_services.unique_hash": "0" * 32}) == 1
    finally:
        client.drop_database(name)
    with pytest.raises(InvalidInputError, match="another database"):
        import_lume_services(source, ResultsService(MongoDBService(source)))


def test_a_document_that_is_no_utf_8_fails_alone(mongodb_url, tmp_path):
    """Text that holds other bytes is a problem of its document, and of no other."""
    database = mongo.get_client(mongodb_url).get_default_database()
    good = bson.encode(document(1, _id=ObjectId(), inputs={"note": "QQQQ"}))
    bad = good.replace(b"QQQQ", b"Q\xff\xffQ")
    database["text"].insert_one(RawBSONDocument(bad))
    database["text"].insert_one(document(2))
    store = SQLDBService(get_engine(f"sqlite:///{tmp_path / 'lume.db'}"))
    store.create_tables()
    report = import_lume_services(database, ResultsService(store), allow_pickle=True)
    assert (report.total.stored, report.total.failed) == (1, 1)
    assert report.problems[0].reason == "the text is not UTF-8."


def test_the_command_shows_a_table_and_the_problems(source, mongodb_url, embedded):
    """Without --json there is a table, each problem, and status 1."""
    arguments = ["--source-uri", mongodb_url, "--collection", "broken", "--dry-run"]
    shown = run(*arguments, code=1).stdout
    assert "would store" in shown
    assert "--allow-pickle" in shown
    assert "it is a str, no dict" in shown
    assert "\n  broken 2 inputs\n" in shown
    assert embedded.projects() == []
    shown = run("--source-uri", mongodb_url, "--collection", "injector", code=1).stdout
    assert shown.count("not imported") == 1
    assert "and 1197 more" in shown


def test_the_source_is_named_by_block_or_environment(
    source, mongodb_url, embedded, prefect_server
):
    """A stored Block, or LUME_SOURCE_URI, leads to the source as well."""
    from prefect_lume.credentials import MongoDBCredentials

    block = f"{source.name.replace('_', '-')}"
    MongoDBCredentials(uri=mongodb_url).save(block, _sync=True)
    chosen = ["--collection", "Impact", "--project", "old", "--json"]
    told = json.loads(run("--source-block", block, *chosen).stdout)
    assert told["total"]["stored"] == 1
    told = json.loads(run(*chosen, env={"LUME_SOURCE_URI": mongodb_url}).stdout)
    assert told["total"]["present"] == 1
    assert embedded.projects() == ["old"]
    result = run("--source-block", "no-such-block", code=1)
    assert isinstance(result.exception, NotFoundError)


def test_wrong_sources_are_named_without_the_password(mongodb_url, embedded):
    """A missing, unreachable or unnamed source is an error of ours, without secrets."""
    assert "--source-block" in run(code=2, env={"LUME_SOURCE_URI": ""}).output
    for uri, error in [
        ("mongodb://u:s3cret@127.0.0.1:9/db?serverSelectionTimeoutMS=200",
         ConnectionFailedError),
        ("mongodb://u:s3cret@127.0.0.1:9", ConfigurationError),
        ("mongodb://u:s3cret@[bad/db", ConfigurationError),
    ]:  # fmt: skip
        result = run("--source-uri", uri, code=1)
        assert isinstance(result.exception, error), result.exception
        assert "s3cret" not in str(result.exception) + result.output
    result = run("--source-uri", mongodb_url, "--collection", "nothing", code=1)
    assert isinstance(result.exception, NotFoundError)


def test_the_help_tells_the_risk_of_pickles():
    """--help says what a pickle is and that it is not run."""
    shown = " ".join(run("--help").output.split())
    assert "A pickle can hold any program" in shown
    assert "LUME_SOURCE_URI" in shown
