"""Codecs of paths, identifiers, references and objects with fields."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pydantic import BaseModel, ValidationError

from prefect_lume.results.codecs import containers
from prefect_lume.results.codecs.base import Codec, Fields, Path
from prefect_lume.results.codecs.keys import MARK
from prefect_lume.results.references import FileReference, ResultReference

if TYPE_CHECKING:
    from prefect_lume.results.codecs.decoder import Decoder
    from prefect_lume.results.codecs.encoder import Encoder


class PathCodec(Codec):
    """A path, which comes back as a pure path of the same flavour."""

    name = "path"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        windows = isinstance(value, PureWindowsPath)
        return self.envelope(
            value=encoder.text(str(value), path),
            flavour="windows" if windows else "posix",
        )

    def decode(self, fields: Fields, decoder: Decoder) -> PurePath:
        text = decoder.eager().decode(
            fields.tree("value"), (*fields.path, "value"), fields.depth + 1
        )
        if not isinstance(text, str):
            raise fields.error("needs the string 'value'")
        flavour = fields.text("flavour")
        if flavour not in _FLAVOURS:
            raise fields.error("needs 'posix' or 'windows' as 'flavour'")
        return _FLAVOURS[flavour](text)


_FLAVOURS: Final[Mapping[str, type[PurePath]]] = {
    "posix": PurePosixPath,
    "windows": PureWindowsPath,
}


class UUIDCodec(Codec):
    """A UUID."""

    name = "uuid"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        return self.envelope(value=str(value))

    def decode(self, fields: Fields, decoder: Decoder) -> UUID:
        text = fields.text("value")
        found = UUID(text)
        if str(found) != text:
            raise fields.error("needs a UUID in its usual form as 'value'")
        return found


class ReferenceCodec(Codec):
    """A reference of this package, which comes back as itself."""

    model: type[FileReference | ResultReference]

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        fields = encoder.mapping(value.model_dump().items(), value, path, depth)
        return self.envelope(**fields)

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        held = {key: item for key, item in fields.raw.items() if key not in (MARK, "v")}
        try:
            return self.model.model_validate(held)
        except ValidationError as exc:
            raise fields.error(f"is not valid: {exc.errors()[0]['msg']}") from exc


class FileCodec(ReferenceCodec):
    """A reference to a file. Only its content counts for the hash."""

    name = "file"
    model = FileReference

    def canonical(self, envelope: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep nothing but the content's hash, which the caller adds."""
        return {MARK: self.name}


class ResultReferenceCodec(ReferenceCodec):
    """A reference to a result."""

    name = "result-reference"
    model = ResultReference


class ModelCodec(Codec):
    """A pydantic model: its fields, which come back as a dict."""

    name = "model"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        fields = {key: getattr(value, key) for key in type(value).model_fields}
        fields.update(value.model_extra or {})
        return encoder.mapping(fields.items(), value, path, depth)

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        """Refuse: a model is stored as its dict, never as an envelope."""
        raise fields.error("does not exist: models are stored as dicts")


class DataclassCodec(Codec):
    """A dataclass instance: its fields, which come back as a dict."""

    name = "dataclass"

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        items = [
            (field.name, getattr(value, field.name))
            for field in dataclasses.fields(value)
        ]
        return encoder.mapping(items, value, path, depth)

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        """Refuse: a dataclass is stored as its dict, never as an envelope."""
        raise fields.error("does not exist: dataclasses are stored as dicts")


def find(value: Any) -> Codec | None:
    """Return the codec of an object that is known by what it is like."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _DATACLASS
    return containers.MAPPING if isinstance(value, Mapping) else None


_PATH, _UUID, _MODEL, _DATACLASS = (
    PathCodec(),
    UUIDCodec(),
    ModelCodec(),
    DataclassCodec(),
)
_FILE, _RESULT = FileCodec(), ResultReferenceCodec()

CODECS: Final = (_PATH, _UUID, _FILE, _RESULT)
TYPES: Final[Mapping[type, Codec]] = {
    PurePath: _PATH,
    UUID: _UUID,
    FileReference: _FILE,
    ResultReference: _RESULT,
    BaseModel: _MODEL,
}
NAMES: Final[Mapping[str, Codec]] = {}
