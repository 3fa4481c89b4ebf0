"""The small JSON that finds a result, or a file, again."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

FileFormat = Literal["hdf5", "image", "text", "yaml", "bytes"]

_SHA256 = r"^[0-9a-f]{64}$"


class ResultReference(BaseModel):
    """The small JSON that finds a stored result again, whole or a part of it.

    Attributes:
        project_name: The project whose collection holds the result.
        result_type: The name of its document type, for example ``"Generic"``.
        unique_hash: The result's key: 64 hexadecimal digits.
        attribute: A field of the document, for example ``"outputs"``; ``None`` means
            the whole document.
        attribute_index: The way from that field to the value: keys of dicts and
            0-based positions in lists.

    Example:
        >>> whole = ResultReference(
        ...     project_name="injector", result_type="Generic", unique_hash="0" * 64
        ... )
        >>> whole.narrowed("outputs", ["sigma", 0]).attribute_index
        ['sigma', 0]
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"x-prefect-lume": "result-reference"},
    )

    project_name: str = Field(min_length=1)
    result_type: str = Field(min_length=1)
    unique_hash: str = Field(pattern=_SHA256)
    attribute: str | None = None
    attribute_index: list[str | int] | None = None

    def narrowed(
        self,
        attribute: str | None = None,
        attribute_index: list[str | int] | None = None,
    ) -> ResultReference:
        """Return a reference to a part of the same result.

        Args:
            attribute: The document's field. ``None`` keeps this reference's.
            attribute_index: The way below the field. ``None`` keeps this
                reference's, unless ``attribute`` changes the field.

        Returns:
            A new reference; this one is not changed.
        """
        if attribute is None or attribute == self.attribute:
            kept = self.attribute_index
        else:
            kept = None
        return ResultReference(
            project_name=self.project_name,
            result_type=self.result_type,
            unique_hash=self.unique_hash,
            attribute=self.attribute if attribute is None else attribute,
            attribute_index=kept if attribute_index is None else attribute_index,
        )

    def __hash__(self) -> int:
        return hash((self.project_name, self.result_type, self.unique_hash))


class FileReference(BaseModel):
    """The small JSON that finds a saved file again and tells whether it is intact.

    Attributes:
        path: The key inside the file storage: relative, with forward slashes,
            without ``.`` or ``..`` parts.
        sha256: The SHA-256 of the content: 64 hexadecimal digits.
        size: The content's size in bytes.
        format: What the content is: ``hdf5``, ``image``, ``text``, ``yaml``, or
            ``bytes`` for anything else.
        media_type: The content's media type, for example ``"image/png"``, or ``""``.
        storage: The Prefect Block that holds the file as ``"slug/name"``; ``""``
            means the default file storage.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        json_schema_extra={"x-prefect-lume": "file-reference"},
    )

    path: str = Field(min_length=1, max_length=1024)
    sha256: str = Field(pattern=_SHA256)
    size: int = Field(ge=0)
    format: FileFormat
    media_type: str = ""
    storage: str = ""

    @field_validator("path")
    @classmethod
    def _inside_the_storage(cls, path: str) -> str:
        parts = path.split("/")
        if (
            "" in parts
            or "." in parts
            or ".." in parts
            or "\\" in path
            or "\0" in path
            or (len(path) > 1 and path[1] == ":")
        ):
            raise ValueError(
                "a file's path is a key inside its storage: relative, parts joined "
                "by '/', without '.', '..', '\\', a drive or a leading '/'"
            )
        return str(PurePosixPath(path))
