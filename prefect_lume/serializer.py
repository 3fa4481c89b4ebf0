"""Prefect's result serializer ``lume``: results persisted without pickle.

Import this module in every process that persists results with it; the Prefect
deployments that :meth:`FlowOfFlows.deploy_subflows` makes do so by themselves.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Literal

from prefect.context import TaskRunContext
from prefect.serializers import Serializer
from pydantic import BaseModel, Field

from prefect_lume.errors import DecodingError, LumeError, clip

_VERSION = 1
#: Far past anything: results are one file each, so nothing leaves the tree.
_EVERYTHING = 1 << 62


class NotStoredError(DecodingError):
    """A result was not kept, because its value has no stored form.

    Attributes:
        type_name: The value's type.
        reason: Why it cannot be stored.
    """

    def __init__(self, type_name: str, reason: str) -> None:
        self.type_name = type_name
        self.reason = reason
        super().__init__(
            "", f"a value of type {type_name} was returned and not kept: {reason}"
        )


class LumeSerializer(Serializer):
    """Writes results as JSON with the codecs of the results database.

    Numbers, text, containers, times, numpy arrays, tables, `FileReference` and
    `ResultReference` come back as they were. Models, dataclasses and enums come back
    as plain data. What has no stored form does not fail the task that returned it: its
    type and the reason are kept instead, and reading it says so.

    A result that would not come back as it was is never taken for a cached one: the
    task runs again.

    Example:
        ```python
        from prefect import flow
        from prefect_lume.serializer import LumeSerializer

        @flow(persist_result=True, result_serializer=LumeSerializer())
        def orbit() -> list[float]:
            return [0.5, 0.25]
        ```
    """

    type: Literal["lume"] = Field(
        default="lume", description="The serializer's name in Prefect's settings."
    )

    def dumps(self, obj: Any) -> bytes:
        """Return a value as JSON; of a value that cannot be stored, the reason."""
        from prefect_lume.results.codecs import encode

        document: dict[str, Any] = {"prefect_lume": _VERSION}
        try:
            encoded = encode(obj, threshold=_EVERYTHING, path="result")
            document["value"] = encoded.tree
            document["exact"] = all(_comes_back(leaf) for leaf in _leaves(obj))
            text = json.dumps(document, allow_nan=False)
        except (LumeError, ValueError, TypeError, RecursionError) as error:
            text = json.dumps(
                {
                    "prefect_lume": _VERSION,
                    "not_stored": {"type": type_name(obj), "reason": clip(error)},
                }
            )
        return text.encode("utf-8", "surrogatepass")

    def loads(self, blob: bytes) -> Any:
        """Return the value.

        Raises:
            NotStoredError: The value was not kept, or, inside a task, would not come
                back as it was.
            DecodingError: The bytes are not what this serializer writes.
        """
        document = _document(blob)
        if not document.get("exact", True) and TaskRunContext.get() is not None:
            raise NotStoredError("a model, dataclass or enum", "it is kept as data")
        return load(blob)


def load(blob: bytes) -> Any:
    """Return the value of what the serializer wrote, models and enums as plain data.

    Raises:
        NotStoredError: The value was not kept.
        DecodingError: The bytes are not what the serializer writes.
    """
    from prefect_lume.results.codecs import decode

    document = _document(blob)
    if "not_stored" in document:
        lost = document["not_stored"]
        raise NotStoredError(str(lost.get("type")), str(lost.get("reason")))
    return decode(document.get("value"), path="result")


def type_name(value: object) -> str:
    """Return a type's name with its module, for messages.

    Example:
        >>> type_name(1.5), type_name(Field())
        ('float', 'pydantic.fields.FieldInfo')
    """
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _document(blob: bytes) -> dict[str, Any]:
    try:
        document = json.loads(blob.decode("utf-8", "surrogatepass"))
    except ValueError as error:
        raise DecodingError("result", "it was not written as 'lume'.") from error
    if not isinstance(document, dict) or document.get("prefect_lume") != _VERSION:
        raise DecodingError("result", "it was written by another version.")
    return document


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _comes_back(leaf: Any) -> bool:
    from prefect_lume.results import FileReference, ResultReference

    if isinstance(leaf, FileReference | ResultReference):
        return True
    return not (
        isinstance(leaf, Enum | BaseModel) or dataclasses.is_dataclass(type(leaf))
    )
