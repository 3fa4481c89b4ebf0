"""Results of LUME-services become results here, or are named with the reason."""

import datetime as dt
import json
import pickle
import uuid
from types import SimpleNamespace

import mongomock
import numpy as np
import pandas as pd
import pytest
from bson import Binary, Code, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS

from prefect_lume.errors import InvalidInputError, NotFoundError
from prefect_lume.results import FileReference, ImpactResult, Result, ResultsService
from prefect_lume.results.importing import import_lume_services
from prefect_lume.results.importing.documents import to_result
from prefect_lume.results.importing.values import ValueReader, restored
from prefect_lume.results.stores import SQLDBService
from prefect_lume.storage.sql import get_engine

UTC = dt.UTC
WHEN = dt.datetime(2022, 8, 1, 10, 0, 0, 123000, tzinfo=UTC)
KEY = ObjectId("62e7a5d0a1b2c3d4e5f60718")
MD5 = "0cc175b9c0f1b6a831c399e269772661"

# The same result, as the generations of LUME-services stored it.
MONGOENGINE = {
    "_id": KEY,
    "_cls": "ResultDocument.ImpactResultDocument",
    "flow_id": "flow-1",
    "inputs": {"charge": 1.5, "lattice": {"quads": [0.4, -0.4]}},
    "outputs": {"sigma_x": 2.5e-4, "x": [1, 2]},
    "date_modified": WHEN,
    "unique_result_hash": MD5,
    "plot_file": "/mnt/plots/a.png",
    "archive": "/mnt/archives/a.h5",
    "pv_collection_isotime": WHEN,
    "config": {"steps": 7},
}
AS_JSON = {
    "_id": KEY,
    "collection": "Impact",
    "flow_id": "flow-1",
    "inputs": {"charge": 1.5, "lattice": {"quads": [0.4, -0.4]}},
    "outputs": {"sigma_x": 2.5e-4, "x": "[1, 2]"},
    "date_modified": "2022-08-01T10:00:00.123456",
    "unique_hash": MD5,
    "result_type_string": "lume_services.results.impact:ImpactResult",
    "plot_file": None,
    "archive": {
        "filename": "/mnt/archives/a.h5",
        "filesystem_identifier": "mounted",
        "file_type_string": "lume_services.files.file:File[HDF5Serializer]",
        "loader": {"object_type": "lume.serializers.hdf5.HDF5Serializer"},
    },
    "pv_collection_isotime": "2022-08-01T10:00:00.123000",
    "config": {"steps": 7},
}
AS_BSON = {
    **AS_JSON,
    "collection": "injector",
    "project_name": "injector",
    "outputs": {
        "sigma_x": 2.5e-4,
        "x": Binary(pickle.dumps(np.array([1, 2]), protocol=2)),
        "table": pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}).to_json(),
    },
    "date_modified": WHEN,
    "pv_collection_isotime": WHEN,
    "result_type_string": "lume_services.results.impact.ImpactResult",
}


def convert(document, collection="Impact", project=None, **options):
    reader = ValueReader(
        allow_pickle=options.pop("allow_pickle", True),
        decode_text=options.pop("decode_text", True),
    )
    result = to_result(document, collection, project, reader, **options)
    return result, reader.problems


def generic(**fields):
    return {"_id": KEY, "flow_id": "f", "inputs": {}, "outputs": {}, **fields}


# --- one document ---------------------------------------------------------------


@pytest.mark.parametrize("document", [MONGOENGINE, AS_JSON, AS_BSON])
def test_every_generation_becomes_the_same_result(document):
    """A result keeps its content, whichever version of LUME-services stored it."""
    result, problems = convert(document)
    assert problems == []
    assert type(result) is ImpactResult
    assert (result.flow_id, result.flow_run_id) == ("flow-1", None)
    assert result.inputs == {"charge": 1.5, "lattice": {"quads": [0.4, -0.4]}}
    assert result.outputs["sigma_x"] == 2.5e-4
    assert list(result.outputs["x"]) == [1, 2]
    assert result.date_modified == WHEN
    assert result.pv_collection_isotime == WHEN
    assert result.config == {"steps": 7}
    assert result.archive is None
    origin = result.lume_services
    assert origin["_id"] == str(KEY)
    assert origin["unique_hash"] == MD5
    assert origin["files"]["archive"]["filename"] == "/mnt/archives/a.h5"
    assert "fields" not in origin


def test_where_a_result_came_from_is_kept_whole():
    """What has no field of its own is kept under lume_services."""
    result, _ = convert(AS_JSON)
    assert result.lume_services == {
        "_id": str(KEY),
        "collection": "Impact",
        "unique_hash": MD5,
        "result_type": "lume_services.results.impact:ImpactResult",
        "date_modified": "2022-08-01T10:00:00.123456",
        "files": {"archive": AS_JSON["archive"]},
    }
    result, _ = convert(generic(extra=[1], index=["inputs"], flow_run_id=3), "Generic")
    assert result.lume_services["fields"] == {
        "extra": [1],
        "index": ["inputs"],
        "flow_run_id": 3,
    }
    assert result.flow_run_id is None


def test_arrays_and_tables_come_back():
    """Pickled arrays are arrays, and tables kept as text are tables, again."""
    result, _ = convert(AS_BSON)
    assert result.outputs["x"].dtype == np.arange(1).dtype
    wanted = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    pd.testing.assert_frame_equal(result.outputs["table"], wanted)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"x": [1.5, None]}),
        pd.DataFrame({"x": ["a", "b"], "y": [True, False]}, index=["p", "q"]),
        pd.DataFrame({"x": [1, 2]}, index=[10, -3]),
        pd.DataFrame({1: [1]}),
    ],
)
def test_the_text_of_a_table_becomes_the_table(frame):
    """Index and columns come back; column labels stay the text that JSON made them."""
    found = restored(frame.to_json())
    pd.testing.assert_frame_equal(
        found, frame.rename(columns=str), check_column_type=False, check_dtype=False
    )
    assert list(found.index) == list(frame.index)


@pytest.mark.parametrize(
    "text",
    ["", "[", "[]", "{}", "[draft]", '{"a": 1}', '{"a": {"0": 1}, "b": {"1": 1}}',
     '["a"]', "[[1], [2, 3]]", "[null]", "[" * 5000 + "]" * 5000, '{"a": [1]}',
     "[1, " + "9" * 5000 + "]", "12", "NaN", '{"a": {"0": 1}} trailing'],
)  # fmt: skip
def test_other_text_stays_text(text):
    """Text that is no array or table of numbers is left alone."""
    assert restored(text) == text


def test_text_is_left_alone_when_told_so():
    """With decode_text=False, text stays what it was."""
    result, _ = convert(AS_JSON, decode_text=False)
    assert result.outputs["x"] == "[1, 2]"


def test_the_values_of_bson_become_plain_values():
    """BSON's own kinds of number, date, id and bytes are what Python has for them."""
    number = uuid.uuid4()
    result, problems = convert(
        generic(
            inputs={
                "int": Int64(5),
                "decimal": Decimal128("1.50"),
                "id": KEY,
                "uuid": Binary.from_uuid(number),
                "bytes": b"\x00\x01",
                "date": dt.datetime(2020, 1, 1),  # noqa: DTZ001 - what is tested.
                "a.b$": {"": [True, None]},
            }
        )
    )
    assert problems == []
    assert type(result.inputs["int"]) is int
    assert result.inputs == {
        "int": 5,
        "decimal": Decimal128("1.50").to_decimal(),
        "id": str(KEY),
        "uuid": number,
        "bytes": b"\x00\x01",
        "date": dt.datetime(2020, 1, 1, tzinfo=UTC),
        "a.b$": {"": [True, None]},
    }


@pytest.mark.parametrize(
    ("fields", "path", "reason"),
    [
        ({"inputs": None}, "inputs", "is missing"),
        ({"outputs": [1]}, "outputs", "is a list"),
        ({"inputs": {"a": [Code("x")]}}, "inputs.a.0", "BSON's type Code"),
        ({"inputs": {"a": DatetimeMS(10**17)}}, "inputs.a", "years 1 to 9999"),
        ({"outputs": {"t": "a\udcff"}}, "outputs.t", "not UTF-8"),
        ({"inputs": {"a": b"\x80\x02N."}}, "inputs.a", "not an array"),
        ({"odd": {"b": b"\x80\x04cos\nsystem\n."}}, "odd.b", "'os.system'"),
    ],
)
def test_what_cannot_be_read_is_named(fields, path, reason):
    """A broken document gives no result, and each fault with its place."""
    result, problems = convert(generic(**fields))
    assert result is None
    assert [place for place, _ in problems] == [path]
    assert reason in problems[0][1]


def test_pickles_are_not_read_unless_allowed():
    """Without allow_pickle every pickle of a document is named; none is read."""
    pickled = Binary(pickle.dumps(np.arange(3), 2))
    document = generic(inputs={"a": pickled}, outputs={"b": [{"c": pickled}]})
    result, problems = convert(document, allow_pickle=False)
    assert result is None
    assert [place for place, _ in problems] == ["inputs.a", "outputs.b.0.c"]
    assert "allow_pickle=True" in problems[0][1]


@pytest.mark.parametrize(
    ("fields", "collection", "wanted"),
    [
        ({"result_type_string": "lume_services.results.generic.Result"}, "p", Result),
        ({"result_type_string": "lume_services.results.impact.ImpactResult"}, "p",
         ImpactResult),
        ({"result_type_string": "os:system"}, "Impact", Result),
        ({"_cls": "ResultDocument"}, "Generic", Result),
        ({}, "Impact", ImpactResult),
        ({}, "Generic", Result),
        ({"archive": "a.h5", "pv_collection_isotime": WHEN}, "cu_inj", ImpactResult),
    ],
)  # fmt: skip
def test_the_type_is_told_by_name_and_never_imported(fields, collection, wanted):
    """Impact results become Impact, all other types Generic."""
    result, _ = convert(generic(**fields), collection)
    assert type(result) is wanted


def test_the_project_is_the_documents_own_unless_told_otherwise():
    """A project that the import overrides is kept where the result came from."""
    assert convert(generic(), "cu_hxr")[0].project_name == "cu_hxr"
    assert convert(generic(project_name="p"), "c")[0].project_name == "p"
    result, _ = convert(generic(project_name="p"), "c", "all")
    assert result.project_name == "all"
    assert result.lume_services["project_name"] == "p"


def test_a_date_that_is_missing_is_taken_from_the_id():
    """Without date_modified the ObjectId tells when the document was made."""
    result, _ = convert(generic(date_modified="soon"))
    assert result.date_modified == KEY.generation_time
    assert result.lume_services["date_from"] == "_id"
    assert result.lume_services["fields"] == {"date_modified": "soon"}
    result, _ = convert(generic(_id=5))
    assert result.lume_services["date_from"] == "import"
    assert result.lume_services["_id"] == 5


def test_files_become_references_where_they_can_be_described():
    """describe_file is asked for archive and plot, and what was said of them stays."""
    found = FileReference(path="a.h5", sha256="0" * 64, size=1, format="hdf5")

    def describe(file):
        if file["filename"].endswith(".png"):
            return None
        return found

    result, problems = convert(MONGOENGINE, describe_file=describe)
    assert problems == []
    assert (result.archive, result.plot_file) == (found, None)
    assert result.lume_services["files"] == {
        "archive": {"filename": "/mnt/archives/a.h5"},
        "plot_file": {"filename": "/mnt/plots/a.png"},
    }

    def fail(file):
        raise NotFoundError("file", file["filename"])

    result, problems = convert(MONGOENGINE, describe_file=fail)
    assert result is None
    assert [place for place, _ in problems] == ["archive", "plot_file"]


# --- a whole database -----------------------------------------------------------


class Source:
    """A mongomock database with the two things that mongomock lacks."""

    def __init__(self):
        self._database = mongomock.MongoClient(tz_aware=True)["lume"]
        servers = {("db", 27017): None}
        self.client = SimpleNamespace(
            topology_description=SimpleNamespace(server_descriptions=lambda: servers)
        )
        self.name = "lume"

    def __getitem__(self, name):
        return self._database[name]

    def get_collection(self, name, codec_options):
        assert codec_options.tz_aware
        return self._database[name]

    def list_collection_names(self):
        return self._database.list_collection_names()


@pytest.fixture
def source():
    database = Source()
    database["injector"].insert_many(
        [{**AS_BSON, "_id": ObjectId()} for _ in range(3)]
        + [generic(_id=ObjectId(), inputs={"n": n}) for n in range(4)]
    )
    database["Impact"].insert_one(MONGOENGINE)
    database["broken"].insert_many(
        [{"_id": 1}, generic(_id=2, outputs={"x": b"\x80\x02N."}), generic(_id="fine")]
    )
    database["lume_blobs.files"].insert_one({"_id": 1})
    return database


@pytest.fixture
def service(tmp_path):
    store = SQLDBService(get_engine(f"sqlite:///{tmp_path / 'lume.db'}"))
    store.create_tables()
    return ResultsService(store)


def counts(report):
    return {
        name: (one.read, one.stored, one.present, one.failed)
        for name, one in report.collections.items()
    }


def test_a_database_is_imported_once(source, service):
    """All that can be read is stored; doing it again stores nothing."""
    report = import_lume_services(source, service, allow_pickle=True)
    assert counts(report) == {
        "Impact": (1, 1, 0, 0),
        "broken": (3, 1, 0, 2),
        "injector": (7, 7, 0, 0),
    }
    again = import_lume_services(source, service, allow_pickle=True)
    assert counts(again) == {
        "Impact": (1, 0, 1, 0),
        "broken": (3, 0, 1, 2),
        "injector": (7, 0, 7, 0),
    }
    assert service.projects() == ["Impact", "broken", "injector"]
    assert service.count("injector") == 7


def test_imported_results_are_found_by_what_they_were(source, service):
    """The old id and hash are fields like any other, and types are our own."""
    import_lume_services(source, service, allow_pickle=True)
    (found,) = service.find("Impact", {"lume_services._id": str(KEY)})
    assert found.lume_services["unique_hash"] == MD5
    assert service.count("injector", {"lume_services.unique_hash": MD5}) == 3
    assert service.count("injector", result_type="Impact") == 3
    assert service.count("injector", result_type="Generic") == 4
    loaded = service.load(found.reference())
    assert loaded == found
    assert loaded.outputs == MONGOENGINE["outputs"]


def test_documents_of_equal_content_stay_apart(source, service):
    """Two documents with one content, which LUME-services allowed, are two results."""
    source["twins"].insert_many([generic(_id=1), generic(_id=2)])
    report = import_lume_services(source, service, collections=["twins"])
    assert counts(report) == {"twins": (2, 2, 0, 0)}
    assert service.distinct("twins", "lume_services._id") == [1, 2]


def test_a_dry_run_tells_the_same_and_writes_nothing(source, service):
    """A dry run counts as the import would, and the database stays empty."""
    report = import_lume_services(source, service, allow_pickle=True, dry_run=True)
    assert report.dry_run
    assert report.total.stored == 9
    assert report.total.failed == 2
    assert service.projects() == []
    import_lume_services(source, service, allow_pickle=True, collections=["Impact"])
    report = import_lume_services(source, service, allow_pickle=True, dry_run=True)
    assert (report.total.stored, report.total.present) == (8, 1)


def test_a_dry_run_saves_no_file(source, service):
    """describe_file, which may save a file, is called by the import itself only."""
    asked = []

    def describe(file):
        asked.append(file["filename"])

    for dry_run in (True, False):
        import_lume_services(
            source,
            service,
            collections=["Impact"],
            describe_file=describe,
            dry_run=dry_run,
        )
        assert asked == ([] if dry_run else ["/mnt/archives/a.h5", "/mnt/plots/a.png"])


def test_the_report_names_every_document_that_failed(source, service):
    """The report is JSON, complete, and says collection, id, place and reason."""
    report = import_lume_services(source, service)
    assert not report.complete
    told = json.loads(json.dumps(report.to_dict()))
    assert told["total"] == {"read": 11, "stored": 6, "present": 0, "failed": 5}
    places = [(p["collection"], p["id"], p["path"]) for p in told["problems"]]
    assert places[:3] == [
        ("broken", "1", "inputs"),
        ("broken", "1", "outputs"),
        ("broken", "2", "outputs.x"),
    ]
    assert [place[2] for place in places[3:]] == ["outputs.x"] * 3
    assert str(report.problems[0]).startswith("broken 1 inputs: it is missing")


def test_what_the_results_database_refuses_is_reported(source, service):
    """A value or name that cannot be stored fails its own document only."""
    source["odd"].insert_many(
        [
            generic(_id=1, flow_id="f" * 5000),
            generic(_id=2, project_name=" padded "),
            generic(_id=3),
        ]
    )
    for dry_run in (True, False):
        report = import_lume_services(
            source, service, collections=["odd"], dry_run=dry_run
        )
        assert counts(report) == {"odd": (3, 1, 0, 2)}
        assert {problem.id for problem in report.problems} == {"1", "2"}


def test_collections_and_project_can_be_chosen(source, service):
    """Only the named collections are read, and all go to the named project."""
    report = import_lume_services(
        source, service, collections=["Impact", "Impact"], project_name="old"
    )
    assert counts(report) == {"Impact": (1, 1, 0, 0)}
    assert service.projects() == ["old"]
    with pytest.raises(NotFoundError, match="Did you mean 'Impact'"):
        import_lume_services(source, service, collections=["Impakt"])


def test_our_own_results_are_not_taken_for_theirs(source, service):
    """A document that prefect-lume stored is refused, with what to do instead."""
    source["own"].insert_one(
        {"_id": "0" * 64, "format": 1, "result_type": "Generic", "unique_on": ["x"]}
    )
    report = import_lume_services(source, service, collections=["own"])
    assert "prefect-lume results copy" in report.problems[0].reason


def test_a_database_is_not_imported_into_itself(source, service, monkeypatch):
    """The source must not be where the results go."""
    monkeypatch.setattr(SQLDBService, "where", "mongodb://db:27017/lume")
    with pytest.raises(InvalidInputError, match="another database"):
        import_lume_services(source, service)


def test_progress_is_told(source, service):
    """Progress hears of every collection, up to its last document."""
    heard = []
    import_lume_services(source, service, progress=lambda *told: heard.append(told))
    assert heard == [("Impact", 1, 1), ("broken", 3, 3), ("injector", 7, 7)]
