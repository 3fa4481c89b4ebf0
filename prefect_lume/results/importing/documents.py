"""One document of LUME-services, as a result."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from bson import ObjectId
from pydantic import ValidationError

from prefect_lume.errors import LumeError, clip
from prefect_lume.results.importing.values import DescribeFile, ValueReader, moment
from prefect_lume.results.result import LOADING, ImpactResult, Result

#: The field of an imported result that says where it comes from.
ORIGIN: Final = "lume_services"
#: What makes an imported result unique: its content, and which document it was.
UNIQUE_ON: Final = (
    "flow_id",
    "flow_run_id",
    "inputs",
    "outputs",
    f"{ORIGIN}.collection",
    f"{ORIGIN}._id",
)

_HASHES: Final = ("unique_hash", "unique_result_hash")
_TYPES: Final = ("result_type_string", "_cls", "result_type", "model_type")
_FILES: Final = ("archive", "plot_file")


def to_result(
    document: Mapping[str, Any],
    collection: str,
    project_name: str | None,
    reader: ValueReader,
    describe_file: DescribeFile | None = None,
) -> Result | None:
    """Return the result that a document holds.

    Args:
        document: The document, as pymongo returns it.
        collection: The collection that it is in.
        project_name: The result's project. None takes the document's own, else the
            collection's name.
        reader: Reads the values.
        describe_file: Returns the references of files.

    Returns:
        The result; None if something in it could not be read: the reader's
        ``problems`` say what.
    """
    if is_own(document):
        reader.refuse(
            "",
            "this is a result of prefect-lume already: copy it with "
            "'prefect-lume results copy'.",
        )
        return None
    rest = dict(document)
    origin: dict[str, Any] = {
        "collection": collection,
        "_id": reader.read(rest.pop("_id", None), "_id"),
    }
    values: dict[str, Any] = {"unique_on": UNIQUE_ON, ORIGIN: origin}
    for name in ("inputs", "outputs"):
        values[name] = _values(rest.pop(name, None), name, reader)
    _hash_and_type(rest, origin, reader)
    impact = _is_impact(origin, collection, rest)
    values["project_name"] = _project(rest, collection, project_name, origin)
    for name in ("flow_id", "flow_run_id"):
        if isinstance(rest.get(name), str | None):
            values[name] = rest.pop(name, None)
    values["date_modified"] = _date(rest, origin, document.get("_id"))
    if impact:
        values |= _impact(rest, origin, reader, describe_file)
    if rest:
        origin["fields"] = {key: reader.read(rest[key], key) for key in rest}
    if reader.problems:
        return None
    return _validated(ImpactResult if impact else Result, values, reader)


def is_own(document: Mapping[str, Any]) -> bool:
    """Tell whether a document is a result of prefect-lume's own."""
    key = document.get("_id")
    return (
        isinstance(key, str)
        and len(key) == 64
        and {"format", "result_type", "unique_on"} <= set(document)
    )


def _validated(
    cls: type[Result], values: dict[str, Any], reader: ValueReader
) -> Result | None:
    try:
        # As loading does: the field of the origin is none of the class's own.
        return cls.model_validate(values, context=LOADING)
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_url=False):
            place = ".".join(map(str, problem["loc"]))
            reader.refuse(place, clip(problem["msg"]))
        return None


def _values(value: Any, name: str, reader: ValueReader) -> Any:
    if isinstance(value, Mapping):
        return reader.read(value, name)
    what = "is missing" if value is None else f"is a {type(value).__name__}, no dict"
    reader.refuse(name, f"it {what}: this is no result of LUME-services.")
    return {}


def _hash_and_type(
    rest: dict[str, Any], origin: dict[str, Any], reader: ValueReader
) -> None:
    for name in _HASHES:
        if name in rest and "unique_hash" not in origin:
            origin["unique_hash"] = reader.read(rest.pop(name), name)
    for name in _TYPES:
        if isinstance(rest.get(name), str) and "result_type" not in origin:
            origin["result_type"] = rest.pop(name)


def _is_impact(origin: dict[str, Any], collection: str, rest: dict[str, Any]) -> bool:
    stored = str(origin.get("result_type", ""))
    name = stored.replace(":", ".").rpartition(".")[2]
    if name in {"ImpactResult", "ImpactResultDocument", "Impact"}:
        return True
    if name in {"", "ResultDocument"}:
        return collection == "Impact" or {"archive", "pv_collection_isotime"} <= set(
            rest
        )
    return False


def _project(
    rest: dict[str, Any],
    collection: str,
    project_name: str | None,
    origin: dict[str, Any],
) -> str:
    own = rest.get("project_name")
    if rest.get("collection") in (collection, own):
        rest.pop("collection", None)
    if not isinstance(own, str) or not own:
        return project_name or collection
    del rest["project_name"]
    if project_name not in {None, own}:
        origin["project_name"] = own
    return project_name or own


def _date(rest: dict[str, Any], origin: dict[str, Any], key: Any) -> datetime:
    stored = rest.get("date_modified")
    found = moment(stored)
    if found is not None:
        del rest["date_modified"]
        if isinstance(stored, str):
            # A result keeps whole milliseconds.
            origin["date_modified"] = stored
        return found
    if isinstance(key, ObjectId):
        origin["date_from"] = "_id"
        return key.generation_time
    origin["date_from"] = "import"
    return datetime.now(UTC)


def _impact(
    rest: dict[str, Any],
    origin: dict[str, Any],
    reader: ValueReader,
    describe_file: DescribeFile | None,
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name in _FILES:
        stored = rest.pop(name, None)
        if stored is None:
            continue
        file = {"filename": stored} if isinstance(stored, str) else stored
        origin.setdefault("files", {})[name] = reader.read(file, name)
        if describe_file and isinstance(file, Mapping) and "filename" in file:
            try:
                values[name] = describe_file(file)
            except LumeError as error:
                reader.refuse(name, str(error))
    if isinstance(rest.get("config"), Mapping):
        values["config"] = reader.read(rest.pop("config"), "config")
    collected = moment(rest.get("pv_collection_isotime"))
    if collected is not None:
        del rest["pv_collection_isotime"]
        values["pv_collection_isotime"] = collected
    return values
