"""The result serializer ``lume``."""

from __future__ import annotations

import pickle
from enum import Enum

import numpy as np
import pandas as pd
import pytest
from prefect.results import ResultRecord, ResultRecordMetadata
from prefect.serializers import CompressedSerializer, Serializer
from pydantic import BaseModel

from prefect_lume.errors import DecodingError
from prefect_lume.results import FileReference, ResultReference
from prefect_lume.serializer import LumeSerializer, NotStoredError, load

FILE = FileReference(path="a/b.txt", sha256="0" * 64, size=3, format="text")
RESULT = ResultReference(project_name="p", result_type="Generic", unique_hash="1" * 64)


class _Colour(Enum):
    RED = "red"


class _Model(BaseModel):
    n: int


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0.1,
        float("inf"),
        10**30,
        "text é",
        b"\x00\xff",
        [1, (2, {"a": {3}})],
        {"": 1, "__lume__": "x", "$a.b": 2},
        FILE,
        {"file": FILE, "results": [RESULT]},
    ],
)
def test_values_come_back_as_they_were(value: object) -> None:
    """Plain values, containers and references keep value and type."""
    serializer = LumeSerializer()
    found = serializer.loads(serializer.dumps(value))
    assert found == value
    assert type(found) is type(value)


def test_arrays_and_tables_come_back_as_they_were() -> None:
    """A numpy array keeps dtype and shape, a DataFrame its columns."""
    serializer = LumeSerializer()
    array = np.linspace(0, 1, 7, dtype=np.float32).reshape(7, 1)
    found = serializer.loads(serializer.dumps(array))
    np.testing.assert_array_equal(found, array, strict=True)
    table = pd.DataFrame({"z": [0.1, 0.2], "n": [1, 2]})
    pd.testing.assert_frame_equal(serializer.loads(serializer.dumps(table)), table)


def test_an_unstorable_value_leaves_its_type_and_the_reason() -> None:
    """A value that no codec knows is written as a marker, and reading it says so."""
    serializer = LumeSerializer()
    blob = serializer.dumps({"socket": object()})
    with pytest.raises(NotStoredError, match=r"dict.*result\.socket.*object"):
        serializer.loads(blob)


def test_models_and_enums_come_back_as_data() -> None:
    """No class is named by what is stored: models and enums become plain data."""
    serializer = LumeSerializer()
    blob = serializer.dumps([_Model(n=1), _Colour.RED])
    assert load(blob) == [{"n": 1}, "red"]
    assert b"_Model" not in blob


@pytest.mark.parametrize("blob", [b"", b"{}", pickle.dumps(1), b"[1]", b'{"a":1}'])
def test_foreign_bytes_are_refused(blob: bytes) -> None:
    """Bytes of another serializer are refused, and never unpickled."""
    with pytest.raises(DecodingError):
        LumeSerializer().loads(blob)


def test_prefect_finds_it_by_its_name() -> None:
    """A record that names it is read with it, also compressed."""
    assert isinstance(Serializer(type="lume"), LumeSerializer)
    record = ResultRecord(
        result=[FILE],
        metadata=ResultRecordMetadata(serializer=LumeSerializer(), storage_key="k"),
    )
    assert ResultRecord.deserialize(record.serialize()).result == [FILE]
    packed = CompressedSerializer(serializer="lume")
    assert packed.loads(packed.dumps({"a": 1})) == {"a": 1}
