"""Result documents, their registry and their stored form."""

import copy
import enum
import hashlib
import json
import math
import pickle
import warnings
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from prefect_lume.errors import (
    ConflictError,
    DecodingError,
    EncodingError,
    IntegrityError,
    InvalidInputError,
)
from prefect_lume.results import model_docs
from prefect_lume.results.codecs import Lazy
from prefect_lume.results.documents import (
    DocumentBase,
    Generic,
    Impact,
    ImpactResult,
    Index,
    ModelDocs,
    Result,
    UnknownResultTypeWarning,
    from_document,
    register_document,
    resolve_model_docs,
    to_document,
    verify_document,
)
from prefect_lume.results.references import FileReference, ResultReference

DOCS = resolve_model_docs()
ARCHIVE = FileReference(path="a/b.h5", sha256="1" * 64, size=5, format="hdf5")


def through(result, docs=DOCS, threshold=65536, **options):
    """Return a result after it was stored as JSON text."""
    encoded = to_document(result, threshold)
    tree = json.loads(json.dumps(encoded.tree, allow_nan=False))
    return from_document(tree, docs, encoded.blobs.__getitem__, **options)


@pytest.fixture
def registry(monkeypatch):
    """Leave the registry of document types as it was."""
    monkeypatch.setattr(model_docs, "_REGISTERED", dict(model_docs._REGISTERED))


def make(**fields):
    return Result(**{"project_name": "demo", "outputs": {"x": 1.5}, **fields})


class Settings(BaseModel):
    energy: float


class Mode(enum.Enum):
    FAST = "fast"


class Scan(Result):
    steps: int = 0
    profile: np.ndarray | None = None
    when: datetime | None = None
    settings: Settings | None = None
    mode: Mode = Mode.FAST
    folder: Path | None = None
    names: tuple[str, ...] = ()
    unique_on: tuple[str, ...] = ("steps", "inputs.k")


def test_a_result_comes_back_the_same():
    """All fields come back, with the stored hash, which is that of the content."""
    result = make(
        flow_id="f",
        flow_run_id="r",
        deployment_id=3,
        inputs={"a.b": (1, {2}), "$k": np.arange(3.0)},
        outputs={
            "file": ARCHIVE,
            "nan": math.nan,
            "t": datetime(2024, 1, 1, tzinfo=UTC),
        },
    )
    found = through(result)
    assert type(found) is Result
    assert found.unique_hash == result.unique_hash
    assert found.verify() == result
    assert found.outputs["file"] == ARCHIVE
    assert found.date_modified == result.date_modified


def test_an_impact_result_comes_back_the_same():
    """Files, times and configuration of an ImpactResult come back."""
    result = ImpactResult(
        project_name="demo",
        archive=ARCHIVE,
        plot_file=ARCHIVE.model_copy(update={"format": "image"}),
        pv_collection_isotime=datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        config={"n": np.int32(5)},
    )
    found = through(result)
    assert type(found) is ImpactResult
    assert found == result
    assert found.archive == ARCHIVE
    assert isinstance(found.config["n"], np.int32)


def test_the_stored_document_is_what_is_documented():
    """The header fields are plain, the key is the hash, the date has a fixed width."""
    moment = datetime(2024, 1, 2, 3, 4, 5, 678999, tzinfo=UTC)
    result = make(inputs={"a.b": 1}, date_modified=moment, deployment_id=4)
    tree = to_document(result).tree
    content = {key: value for key, value in tree.items() if key != "_checksum"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert tree == {
        "_id": result.unique_hash,
        "_checksum": hashlib.sha256(text.encode("ascii")).hexdigest(),
        "format": 2,
        "result_type": "Generic",
        "project_name": "demo",
        "flow_id": None,
        "flow_run_id": None,
        "deployment_id": 4,
        "inputs": {"a%2Eb": 1},
        "outputs": {"x": 1.5},
        "date_modified": "2024-01-02T03:04:05.678000Z",
        "unique_on": ["flow_id", "flow_run_id", "inputs", "outputs"],
    }


def test_the_date_is_utc_in_milliseconds():
    """Any zone is taken, UTC is kept; a naive date is refused."""
    local = datetime(2024, 1, 1, 1, 0, 0, 1999, tzinfo=timezone(timedelta(hours=1)))
    assert make(date_modified=local).date_modified == datetime(
        2024, 1, 1, 0, 0, 0, 1000, tzinfo=UTC
    )
    assert make().date_modified.microsecond % 1000 == 0
    with pytest.raises(ValidationError):
        make(date_modified=datetime.fromisoformat("2024-01-01"))


def test_unknown_fields_are_refused_with_a_suggestion():
    """A misspelt field is not silently kept."""
    with pytest.raises(ValidationError, match="Did you mean 'outputs'"):
        Result(project_name="p", output={})
    with pytest.raises(ValidationError):
        Result(project_name="p", unique_hash="0" * 64)
    with pytest.raises(ValidationError):
        Result(project_name="")


def test_the_validation_error_is_told():
    """get_validation_error names the exception that a wrong document raises."""
    with pytest.raises(Result.get_validation_error()):
        Result(project_name=1)


def test_a_result_is_frozen():
    """Neither fields nor the hash can be set; a copy has its own hash."""
    result = make()
    before = result.unique_hash
    with pytest.raises(ValidationError):
        result.outputs = {}
    with pytest.raises((ValidationError, AttributeError)):
        result.unique_hash = "0" * 64
    copied = result.model_copy(update={"outputs": {"x": 2}})
    assert copied.unique_hash != before
    assert result.unique_hash == before
    assert pickle.loads(pickle.dumps(result)) == result
    assert copy.deepcopy(result) == result


def test_the_stored_hash_is_that_of_the_stored_content():
    """A result whose outputs were changed is stored under its new hash."""
    result = make()
    before = result.unique_hash
    result.outputs["x"] = 2
    encoded = to_document(result)
    assert encoded.tree["_id"] != before
    from_document(encoded.tree, DOCS).verify()


def test_the_hash_covers_type_project_and_unique_on():
    """What is named in unique_on counts, and so do type and project; nothing else."""
    base = make(flow_id="f", unique_on=("outputs",))
    assert base.unique_hash == make(unique_on=("outputs",), deployment_id=9).unique_hash
    for other in (
        make(outputs={"x": 2}, unique_on=("outputs",)),
        make(project_name="other", unique_on=("outputs",)),
        make(unique_on=("outputs.x",)),
        ImpactResult(project_name="demo", outputs={"x": 1.5}, unique_on=("outputs",)),
    ):
        assert other.unique_hash != base.unique_hash


def test_unique_on_follows_paths():
    """Paths go through dicts, lists, tuples and models; keys are as they are stored."""
    inputs = {"a.b": [{"c": 1}], "m": Settings(energy=2), "t": (5, 6)}
    paths = ("inputs.a%2Eb.0.c", "inputs.m.energy", "inputs.t.1")
    one = make(inputs=inputs, unique_on=paths)
    same = make(inputs={**inputs, "t": (0, 6), "more": 1}, unique_on=paths)
    other = make(inputs={**inputs, "t": (5, 7)}, unique_on=paths)
    assert one.unique_hash == same.unique_hash != other.unique_hash


@pytest.mark.parametrize("path", ["inputs.k", "nothing", "outputs.x.y", "inputs.0"])
def test_unique_on_must_name_what_is_there(path):
    """A path that leads nowhere is an error, not a hash that others share."""
    with pytest.raises(InvalidInputError, match="unique_on"):
        _ = make(unique_on=(path,)).unique_hash


@pytest.mark.parametrize("paths", [(), ("",), ("a..b",)])
def test_unique_on_must_be_paths(paths):
    """At least one path, without empty steps."""
    with pytest.raises(ValidationError):
        make(unique_on=paths)


def test_what_cannot_be_stored_is_named():
    """The error names the field and the way below it."""
    with pytest.raises(EncodingError, match=r"^outputs\.beam\[1\]\.f: "):
        to_document(make(outputs={"beam": [1, {"f": print}]}))
    with pytest.raises(InvalidInputError, match="threshold"):
        to_document(make(), -1)


def test_a_changed_document_does_not_verify():
    """verify() notices that a stored number was changed, or is gone."""
    stored = to_document(make(unique_on=("outputs.x",))).tree
    for outputs in ({"x": 99}, {}):
        found = from_document({**stored, "outputs": outputs}, DOCS)
        with pytest.raises(IntegrityError, match="hash"):
            found.verify()


def test_results_are_equal_by_content():
    """Equal content makes equal results, whenever they were made."""
    one = make(outputs={"x": np.arange(3), "n": math.nan})
    other = make(outputs={"n": math.nan, "x": np.arange(3)})
    assert one == other.model_copy(update={"date_modified": datetime.now(UTC)})
    assert hash(one) == hash(other)
    assert one != make(outputs={"x": np.arange(4), "n": math.nan})
    assert one != make(outputs=one.outputs, flow_id="f")
    assert one != "result"


def test_a_result_refers_to_itself():
    """reference() is what finds the result, or a part of it, again."""
    result = make()
    assert result.reference("outputs", ["x"]) == ResultReference(
        project_name="demo",
        result_type="Generic",
        unique_hash=result.unique_hash,
        attribute="outputs",
        attribute_index=["x"],
    )
    assert result.get_pk_id() == result.unique_hash


def test_own_fields_come_back_by_their_types():
    """A subclass's fields are stored too, and validated into their types."""
    scan = Scan(
        project_name="demo",
        steps=3,
        inputs={"k": 1},
        profile=np.eye(2),
        when=datetime(2024, 1, 1, tzinfo=UTC),
        settings=Settings(energy=1.5),
        folder=Path("a/b"),
        names=("x", "y"),
    )
    found = through(scan, {"Scan": Scan})
    assert type(found) is Scan
    assert found == scan
    assert found.settings == Settings(energy=1.5)
    assert (found.when, found.mode, found.names) == (scan.when, Mode.FAST, ("x", "y"))
    assert found.folder == Path("a/b")
    np.testing.assert_array_equal(found.profile, np.eye(2))


def test_an_unknown_type_loads_as_generic_and_loses_nothing():
    """Without its class a result is Generic, warns, and is stored again unchanged."""
    scan = Scan(project_name="demo", steps=3, inputs={"k": 1}, profile=np.eye(2))
    with pytest.warns(UnknownResultTypeWarning, match="'Scan'"):
        found = through(scan)
    assert type(found) is Result
    assert found.steps == 3
    assert found.type_name == "Scan"
    assert found.reference() == scan.reference()
    assert found.verify() == scan
    assert to_document(found) == to_document(scan)


def test_fields_that_a_class_lost_are_kept():
    """A document of an older class keeps the fields that the class no longer has."""
    tree = to_document(make(), 0).tree
    found = from_document({**tree, "colour": "red"}, DOCS)
    assert found.colour == "red"
    assert to_document(found).tree["colour"] == "red"


def test_a_document_that_does_not_fit_its_class_is_refused():
    """The error names the field and the class, and shows no content."""
    tree = {**to_document(make()).tree, "result_type": "Scan", "steps": "hunter2"}
    with pytest.raises(DecodingError, match=r"^steps: .*'Scan'") as caught:
        from_document(tree, {"Scan": Scan})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 3}, "format 3"),
        ({"format": None}, "format"),
        ({"format": True}, "format"),
        ({"_id": "x"}, "hash"),
        ({"_id": None}, "hash"),
        ({"result_type": None}, "type"),
        ({"date_modified": "yesterday"}, "date_modified"),
        ({"date_modified": None}, "date_modified"),
        ({"inputs": [1]}, "inputs"),
        ({"inputs": {"a.b": 1}}, "escaped"),
        ({"project_name": 5}, "project_name"),
        ({"unique_on": [[]]}, "unique_on"),
    ],
    ids=repr,
)
def test_malformed_documents_are_refused(changes, words):
    """What no result was stored as raises a DecodingError that says where."""
    tree = {**to_document(make()).tree, **changes}
    with pytest.raises(DecodingError, match=words):
        from_document(tree, DOCS)
    with pytest.raises(DecodingError):
        from_document([], DOCS)


@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": {"n": 2}},
        {"date_modified": "2025-01-01T00:00:00.000000Z"},
        {"_checksum": None},
        {"_checksum": "0" * 64},
        {"another": 1},
        {"outputs": {"x": float("nan")}},
        {"outputs": {"x": datetime(2024, 1, 1, tzinfo=UTC)}},
        {"deployment_id": 5},
    ],
    ids=repr,
)
def test_a_changed_document_is_recognised(changes):
    """Whatever of a document was changed in the database, it is not returned."""
    tree = to_document(make(inputs={"n": 1})).tree
    verify_document(dict(reversed(tree.items())))
    with pytest.raises(IntegrityError, match="was changed in the database"):
        verify_document({**tree, **changes})


def test_documents_of_the_first_format_have_no_checksum():
    """They are read as before; a lost checksum does not make a document one."""
    tree = to_document(make()).tree
    first = {key: value for key, value in tree.items() if key != "_checksum"}
    with pytest.raises(IntegrityError):
        verify_document(first)
    verify_document({**first, "format": 1})
    assert from_document({**first, "format": 1}, DOCS) == make()


def test_large_values_are_loaded_when_asked():
    """A lazy result verifies without its blobs, and loads each when asked."""
    result = make(outputs={"x": np.arange(100_000.0), "n": 1})
    encoded = to_document(result)
    read = []

    def load_blob(digest):
        read.append(digest)
        return encoded.blobs[digest]

    found = from_document(encoded.tree, DOCS, load_blob, lazy=True)
    assert isinstance(found.outputs["x"], Lazy)
    assert found.outputs["n"] == 1
    assert found.verify() == result
    assert read == []
    np.testing.assert_array_equal(found.outputs["x"].load(), result.outputs["x"])
    again = to_document(found)
    assert (again.tree, again.blobs) == (encoded.tree, {})


def depth_of(tree):
    if isinstance(tree, dict):
        return 1 + max(map(depth_of, tree.values()), default=0)
    if isinstance(tree, list):
        return 1 + max(map(depth_of, tree), default=0)
    return 0


@pytest.mark.parametrize("lazy", [False, True])
def test_large_containers_leave_the_document(lazy):
    """A long list of numbers is no reason for a document past 16 MB."""
    outputs = {
        "many": [float(number) for number in range(300_000)],
        "tuple": tuple(range(200_000)),
        "texts": {f"key {number}": "x" * 100 for number in range(20_000)},
        "small": [1, 2],
    }
    result = make(outputs=outputs)
    encoded = to_document(result)
    assert len(json.dumps(encoded.tree)) < 2000
    assert encoded.tree["outputs"]["small"] == [1, 2]
    found = from_document(encoded.tree, DOCS, encoded.blobs.__getitem__, lazy=lazy)
    assert found.verify() == result
    assert found.unique_hash == result.unique_hash


def test_many_middling_fields_fit_a_document():
    """Containers leave until the document is small enough for any database."""
    part = {f"{number}": "x" * 1000 for number in range(900)}
    result = make(inputs={f"{number}": part for number in range(30)}, outputs={})
    encoded = to_document(result)
    assert len(json.dumps(encoded.tree)) < 13 << 20
    assert from_document(encoded.tree, DOCS, encoded.blobs.__getitem__) == result


def test_deep_values_leave_the_document():
    """MongoDB allows 100 levels; a deeper value becomes a blob."""
    value = 1
    for _ in range(190):
        value = (value,)
    result = make(outputs={"deep": value})
    encoded = to_document(result)
    assert depth_of(encoded.tree) < 70
    found = from_document(encoded.tree, DOCS, encoded.blobs.__getitem__)
    assert found.verify().outputs["deep"] == value


def test_a_class_is_registered_by_its_name(registry):
    """The decorator makes a class known to every service under its result_type."""

    @register_document
    class Emittance(Result):
        value: float = 0.0

    @register_document("plots.v2")
    class Plot(Result):
        pass

    docs = resolve_model_docs()
    assert docs["Emittance"] is Emittance
    assert docs["plots.v2"] is Plot
    assert Plot.result_type == "plots.v2"
    assert docs["Generic"] is Result
    assert through(Emittance(project_name="p", value=2.0), docs).value == 2.0


def test_a_name_is_registered_once(registry):
    """Two classes cannot share a name; the same class imported again can."""

    def define():
        class Twice(Result):
            pass

        return Twice

    first = register_document(define())
    second = register_document(define())
    assert resolve_model_docs()["Twice"] is second is not first

    class Other(Result):
        result_type: ClassVar[str] = "Twice"

    with pytest.raises(ConflictError, match="Twice"):
        register_document(Other)


@pytest.mark.parametrize("name", ["", "a b", "$x", "x" * 65, "1a"])
def test_wrong_names_are_refused(registry, name):
    """A type's name is a short identifier."""
    with pytest.raises(InvalidInputError, match="name"):

        @register_document(name)
        class Wrong(Result):
            pass


def test_only_document_classes_are_registered(registry):
    """What is no document class is refused."""
    with pytest.raises(InvalidInputError, match="Result"):
        register_document(dict)


class MyImpact(ImpactResult):
    result_type: ClassVar[str] = "Impact"
    charge: float = 0.0


class MyDocs(ModelDocs):
    IMPACT = MyImpact
    SCAN = Scan


def test_model_docs_is_extended_and_altered():
    """A subclass adds types and replaces those of the same name."""
    assert ModelDocs.GENERIC is Generic is Result
    assert ModelDocs.IMPACT is Impact is ImpactResult
    assert dict(ModelDocs.types()) == {"Generic": Result, "Impact": ImpactResult}
    assert sorted(MyDocs) == ["Generic", "Impact", "Scan"]
    assert len(MyDocs) == 3
    assert "Scan" in MyDocs
    assert MyDocs["Impact"] is MyImpact
    assert resolve_model_docs(MyDocs)["Impact"] is MyImpact


def test_an_enum_and_a_mapping_do_as_well():
    """A plain Enum of classes, as LUME's services took it, or a mapping is accepted."""

    class Documents(enum.Enum):
        IMPACT = MyImpact
        SCAN = Scan

    for docs in (Documents, {"Impact": MyImpact, "old scan": Scan}):
        found = resolve_model_docs(docs)
        assert found["Impact"] is MyImpact
        assert found["Scan"] is Scan
        assert found["Generic"] is Result
    assert found["old scan"] is Scan


@pytest.mark.parametrize("wrong", [3, {"a": int}, [Scan]])
def test_other_model_docs_are_refused(wrong):
    """Anything else is an error that says what is allowed."""
    with pytest.raises(InvalidInputError):
        resolve_model_docs(wrong)


def test_installed_packages_offer_types(tmp_path, monkeypatch):
    """Entry points of the group prefect_lume.results are found; a broken one warns."""
    info = tmp_path / "lab-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lab\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[prefect_lume.results]\nWire = lab_results:Wire\nGone = lab_results:Gone\n"
    )
    (tmp_path / "lab_results.py").write_text(
        "from prefect_lume.results import Result\n"
        "class Wire(Result):\n    position: float = 0.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model_docs._offered.cache_clear()
    try:
        with pytest.warns(UserWarning, match="lab_results:Gone"):
            docs = resolve_model_docs()
        assert docs["Wire"].__module__ == "lab_results"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "Gone" not in resolve_model_docs()
    finally:
        model_docs._offered.cache_clear()


def test_reserved_fields_are_refused():
    """A document type cannot have fields that stored documents use."""
    with pytest.raises(InvalidInputError, match="'format'"):

        class Wrong(Result):
            format: str = ""


def test_indices_are_declared():
    """An index names fields; an empty one, or a bare string, is refused."""
    assert Index(["a", "b"]).fields == ("a", "b")
    assert Index(("flow_id",)) in ImpactResult.indices
    for wrong in ((), "a", ("",)):
        with pytest.raises(InvalidInputError):
            Index(wrong)


def test_the_base_is_abstract():
    """A representation of one's own implements both methods."""
    with pytest.raises(TypeError, match="abstract"):
        DocumentBase()

    class Own(DocumentBase):
        key: str

        def get_pk_id(self):
            return self.key

        @staticmethod
        def get_validation_error():
            return ValidationError

    assert Own(key="k").get_pk_id() == "k"
    assert Own.result_type == "Own"
