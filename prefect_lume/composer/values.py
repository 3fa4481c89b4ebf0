"""Values on their way from one subflow to the next: their JSON form, and its size."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from prefect_lume.errors import EncodingError
from prefect_lume.serializer import type_name

#: Prefect's cap on the parameters of one flow run.
LARGEST: Final = 512_000

_PLAIN: Final = (datetime, date, time, timedelta, Decimal, UUID, PurePath)


def json_form(value: Any, where: str = "value") -> Any:
    """Return a value in the JSON form in which it is handed to a subflow.

    numpy scalars and arrays become numbers and lists, exactly; models and dataclasses
    become objects, tuples and sets become arrays, times become ISO 8601 text.

    Args:
        value: What an upstream task returned.
        where: What to call it in the error.

    Raises:
        EncodingError: Something in it has no JSON form, which NaN and the infinities
            have not: they would arrive as other values, or not at all.

    Example:
        >>> json_form({"sigma": (0.5, 1)})
        {'sigma': [0.5, 1]}
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str | int | float):
        return _scalar(value, where)
    if isinstance(value, Enum):
        return json_form(value.value, where)
    fields = _fields(value)
    if fields is not None:
        return {
            _key(key, where): json_form(item, f"{where}[{key!r}]")
            for key, item in fields.items()
        }
    if isinstance(value, list | tuple):
        return [json_form(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, set | frozenset):
        items = [json_form(item, where) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, _PLAIN):
        return to_jsonable_python(value)
    return _array(value, where)


def _scalar(value: str | float, where: str) -> Any:
    if isinstance(value, Enum):
        return _scalar(value.value, where)
    if isinstance(value, str):
        return str(value)
    return int(value) if isinstance(value, int) else _finite(float(value), where)


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """Return what becomes an object: a mapping, a model's or dataclass's fields."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, BaseModel):
        return value.model_dump(mode="python")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: getattr(value, name) for name in names}
    return None


def _array(value: Any, where: str) -> Any:
    """Return a numpy array or scalar as lists and numbers; refuse anything else."""
    kind = getattr(getattr(value, "dtype", None), "kind", "")
    if kind and kind in "biufSU" and callable(getattr(value, "tolist", None)):
        plain = value.tolist()
        if kind in "bS" and isinstance(plain, bytes):
            raise EncodingError(where, _remedy(value))
        return json_form(plain, where)
    raise EncodingError(where, _remedy(value))


def _remedy(value: Any) -> str:
    return (
        f"a value of type {type_name(value)} has no JSON form. Return numbers, text, "
        f"lists, objects or numeric arrays; or store it with store_result or "
        f"save_file and map the reference (map_type db or file)."
    )


def _finite(number: float, where: str) -> float:
    if math.isfinite(number):
        return number
    raise EncodingError(
        where,
        f"{number} has no JSON form. Replace it in the task that returns it (for "
        f"example by None), or store the value with store_result and map it as db.",
    )


def _key(key: Any, where: str) -> str:
    if isinstance(key, str):
        return str(key)
    raise EncodingError(
        where,
        f"the key {key!r} is of type {type_name(key)}, and JSON has text keys only.",
    )


def size(value: Any) -> int:
    """Return how many bytes a JSON form takes as a parameter.

    Example:
        >>> size([1, "a"])
        8
    """
    return len(json.dumps(value).encode())
