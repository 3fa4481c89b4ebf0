"""Values of LUME-services' documents, from BSON to what a result holds."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from bson import Binary, Decimal128, Int64, ObjectId
from bson.binary import OLD_UUID_SUBTYPE, UUID_SUBTYPE

from prefect_lume._optional import require
from prefect_lume.errors import DecodingError, clip
from prefect_lume.results.importing.arrays import load_array
from prefect_lume.results.importing.opcodes import is_pickle
from prefect_lume.results.references import FileReference

#: Describes a file that LUME-services named, or returns None where it cannot.
DescribeFile = Callable[[Mapping[str, Any]], FileReference | None]

_DEEPEST: Final = 200
_PLAIN: Final = frozenset({type(None), bool, int, float})


class ValueReader:
    """Reads the values of one document, and notes what it could not read.

    Attributes:
        problems: Pairs of path and reason.
        size: About how many bytes the values take.
    """

    def __init__(self, *, allow_pickle: bool, decode_text: bool) -> None:
        self._allow_pickle = allow_pickle
        self._decode_text = decode_text
        self.problems: list[tuple[str, str]] = []
        self.size = 0

    def read(self, value: Any, path: str, depth: int = 0) -> Any:
        """Return a value as a result holds it; None where it cannot be read.

        Args:
            value: The value, as pymongo returns it.
            path: Where it is in the document.
            depth: How many containers are around it.
        """
        kind = type(value)
        self.size += 8
        if kind in _PLAIN:
            return value
        if kind is str:
            self.size += len(value)
            return self._text(value, path)
        if isinstance(value, Mapping):
            return self._mapping(value, path, depth)
        if kind is list:
            if depth > _DEEPEST:
                return self.refuse(path, "values are nested too deep.")
            return [
                self.read(item, f"{path}.{position}", depth + 1)
                for position, item in enumerate(value)
            ]
        if isinstance(value, bytes):
            self.size += len(value)
            return self._bytes(value, path)
        return self._other(value, path)

    def _mapping(self, value: Mapping[str, Any], path: str, depth: int) -> Any:
        if depth > _DEEPEST:
            return self.refuse(path, "values are nested too deep.")
        return {
            key: self.read(item, f"{path}.{key}", depth + 1)
            for key, item in value.items()
        }

    def _text(self, value: str, path: str) -> Any:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            return self.refuse(path, "the text is not UTF-8.")
        return restored(value) if self._decode_text else value

    def _bytes(self, value: bytes, path: str) -> Any:
        if isinstance(value, Binary) and value.subtype in {
            OLD_UUID_SUBTYPE,
            UUID_SUBTYPE,
        }:
            return uuid.UUID(bytes=bytes(value))
        data = bytes(value)
        if not is_pickle(data):
            return data
        if not self._allow_pickle:
            return self.refuse(
                path,
                "it is a pickle, as LUME-services stored arrays. Pickles are read, "
                "and only those of numpy arrays, when you allow it: --allow-pickle on "
                "the command line, allow_pickle=True in Python.",
            )
        try:
            return load_array(data)
        except DecodingError as error:
            return self.refuse(path, str(error))

    def _other(self, value: Any, path: str) -> Any:
        if isinstance(value, datetime):
            return aware(value)
        if isinstance(value, Int64):
            return int(value)
        if isinstance(value, ObjectId):
            return str(value)
        if isinstance(value, Decimal128):
            return value.to_decimal()
        name = type(value).__name__
        if name == "DatetimeMS":
            return self.refuse(path, "the date lies outside of the years 1 to 9999.")
        return self.refuse(path, f"values of BSON's type {name} are not read.")

    def refuse(self, path: str, reason: str) -> None:
        """Note something that could not be read."""
        self.problems.append((path, reason))


def aware(value: datetime) -> datetime:
    """Return a date with its zone; one without counts as UTC."""
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def moment(value: object) -> datetime | None:
    """Return a date, or text that holds one, with its zone; None for anything else.

    Example:
        >>> moment("2022-08-01T10:00:00").isoformat()
        '2022-08-01T10:00:00+00:00'
        >>> moment("yesterday") is None
        True
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    return aware(value) if isinstance(value, datetime) else None


def restored(text: str) -> Any:
    """Return the array or table that LUME-services kept as text, or the text.

    Arrays were kept as JSON lists of numbers, and tables as pandas' ``to_json()``
    writes them: an object for each column, whose keys are the index.

    Args:
        text: Any text.

    Raises:
        MissingDependencyError: It is an array or table, and numpy or pandas is not
            installed.

    Example:
        >>> restored("[[1, 2], [3, 4]]").shape
        (2, 2)
        >>> restored('{"x": {"0": 1.5, "1": 2.5}}')["x"].tolist()
        [1.5, 2.5]
        >>> restored("[draft]")
        '[draft]'
    """
    if text[:2] == '{"' and text[-1] == "}":
        found = _json(text)
        if _is_table(found):
            return _table(found)
    elif text[:1] == "[" and text[-1] == "]":
        found = _json(text)
        if isinstance(found, list) and found:
            array = _array(found)
            return text if array is None else array
    return text


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_table(found: object) -> bool:
    if not isinstance(found, dict) or not found:
        return False
    columns = list(found.values())
    if not all(isinstance(column, dict) for column in columns):
        return False
    index = list(columns[0])
    return all(list(column) == index for column in columns)


def _table(found: dict[str, dict[str, Any]]) -> Any:
    pandas = require("pandas", "Reading a table that LUME-services kept as text")
    index: Any = list(next(iter(found.values())))
    if index == [str(number) for number in range(len(index))]:
        index = pandas.RangeIndex(len(index))
    elif all(_is_number(label) for label in index):
        index = [int(label) for label in index]
    columns = {name: list(column.values()) for name, column in found.items()}
    return pandas.DataFrame(columns, index=index)


def _is_number(label: str) -> bool:
    digits = label.removeprefix("-")
    return digits.isascii() and digits.isdigit() and str(int(label)) == label


def _array(found: list[Any]) -> Any:
    numpy = require("numpy", "Reading an array that LUME-services kept as text")
    try:
        array = numpy.array(found)
    except (ValueError, OverflowError):
        return None
    return array if array.dtype.kind in "bif" else None


def shown(value: object) -> str:
    """Return a document's ``_id`` as text."""
    return clip(value if isinstance(value, str | ObjectId) else repr(value), 120)
