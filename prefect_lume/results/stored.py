"""Documents as they are stored, and back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, Final

from pydantic import ValidationError

from prefect_lume._fingerprint import ascii_json, join_json, sha256_bytes
from prefect_lume.errors import (
    DecodingError,
    IntegrityError,
    InvalidInputError,
    clip,
    name_list,
)
from prefect_lume.results.codecs import (
    DEFAULT_THRESHOLD,
    Encoded,
    LoadBlob,
    decode,
    unescape_key,
)
from prefect_lume.results.codecs.encoder import Encoder
from prefect_lume.results.codecs.spill import DEEPEST, LARGEST, fit
from prefect_lume.results.codecs.times import parse_utc
from prefect_lume.results.result import LOADING, RESERVED, DocumentBase, Result

#: The version of the stored form. Since 2 a document has a checksum.
FORMAT: Final = 2
#: The document's key that holds the hash of all others.
CHECKSUM: Final = "_checksum"

_HASH_LENGTH: Final = 64
_WITH_CHECKSUM: Final = 2
_BSON_PER_JSON: Final = 10


class UnknownResultTypeWarning(UserWarning):
    """A stored result is of a type that is not registered here."""


def to_document(result: Result, threshold: int = DEFAULT_THRESHOLD) -> Encoded:
    """Return a result as it is stored: a JSON document and the blobs it needs.

    Args:
        result: The result.
        threshold: Payloads of more bytes leave the document as blobs.

    Returns:
        The document, whose ``_id`` is the result's ``unique_hash``, and the blobs,
        which have to be written before it.

    Raises:
        EncodingError: Something in the result cannot be stored; nothing was written.
        InvalidInputError: ``unique_on`` names something that the result lacks.
    """
    if threshold < 0:
        raise InvalidInputError(
            f"The threshold is a number of bytes, 0 or more, not {threshold}."
        )
    encoder = Encoder(threshold)
    trees = result.field_trees(encoder)
    texts = _field_texts(trees)
    key = result.remember_hash(trees, texts)
    if not _surely_fits(texts):
        trees = fit(trees, encoder.blobs)
        texts = _field_texts(trees)
    head = {"_id": key, "format": FORMAT, "result_type": result.type_name}
    texts |= {name: ascii_json(value) for name, value in head.items()}
    digest = sha256_bytes(join_json(texts).encode("ascii"))
    texts[CHECKSUM] = f'"{digest}"'
    document = {**head, **trees, CHECKSUM: digest}
    return Encoded(document, encoder.blobs, texts)


def _field_texts(trees: Mapping[str, Any]) -> dict[str, str]:
    """Return the fields as JSON, each written once for hash, checksum and store."""
    return {
        name: "null" if tree is None else ascii_json(tree)
        for name, tree in trees.items()
    }


def _surely_fits(texts: Mapping[str, str]) -> bool:
    """Tell quickly that nothing has to leave the document because of its size.

    A list of digits takes 17 bytes of BSON for two characters of JSON; nothing more.
    """
    return (
        sum(map(len, texts.values())) <= LARGEST // _BSON_PER_JSON
        and sum(t.count("{") + t.count("[") for t in texts.values()) < DEEPEST
    )


def checksum(document: Mapping[str, Any]) -> str:
    """Return the SHA-256 of all of a stored document but its checksum.

    Args:
        document: The document, whatever order its keys are in.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> checksum({"a": 1, "_checksum": "..."}) == checksum({"a": 1})
        True
    """
    content = {key: item for key, item in document.items() if key != CHECKSUM}
    return sha256_bytes(ascii_json(content).encode("ascii"))


def verify_document(document: Mapping[str, Any]) -> None:
    """Check that a stored document is what was stored once.

    Documents of format 1 have no checksum and pass; what ``unique_hash`` covers of
    them can be checked by :meth:`Result.verify`.

    Args:
        document: The whole document, nothing left out.

    Raises:
        IntegrityError: It was changed.
        DecodingError: It is none, or of a newer format.
    """
    key, name = _head(document)
    if document["format"] < _WITH_CHECKSUM:
        return
    try:
        intact = document.get(CHECKSUM) == checksum(document)
    except (TypeError, ValueError, RecursionError):
        # It holds something that was never written.
        intact = False
    if not intact:
        raise IntegrityError(
            f"The stored {clip(name, 80)} result {key} of project "
            f"{clip(repr(document.get('project_name')), 80)} was changed in the "
            f"database: it does not have its checksum. Restore it from a backup, or "
            f"delete it and run the model again."
        )


def from_document(
    tree: Mapping[str, Any],
    docs: Mapping[str, type[DocumentBase]],
    load_blob: LoadBlob | None = None,
    *,
    lazy: bool = False,
) -> DocumentBase:
    """Return the result that a stored document holds.

    Args:
        tree: The stored document.
        docs: Result type → document class, from
            :func:`prefect_lume.results.resolve_model_docs`. A type that is not in it
            is loaded as ``Generic`` with a warning; all its fields are kept.
        load_blob: Returns the bytes of a blob by its SHA-256.
        lazy: Large values in ``inputs``, ``outputs``, ``config`` and unknown fields
            come back as :class:`~prefect_lume.results.codecs.Lazy`.

    Returns:
        The result. Its ``unique_hash`` is the stored one; ``verify()`` checks it.

    Raises:
        DecodingError: The document is malformed, of a newer format, or does not fit
            its class.
        IntegrityError: A payload is not what its hash says.
    """
    key, name = _head(tree)
    cls = docs.get(name)
    if cls is None:
        warnings.warn(
            f"Results of type {clip(repr(name), 80)} are not known here and are loaded "
            f"as Generic. Known: {name_list(docs)}. Register the class with "
            "register_document, or name it in model_docs.",
            UnknownResultTypeWarning,
            stacklevel=2,
        )
        cls = docs.get(Result.result_type, Result)
    values = {}
    for stored, item in tree.items():
        if stored in RESERVED:
            continue
        field = unescape_key(stored)
        late = lazy and (field in _LATE or field not in cls.model_fields)
        value = decode(item, load_blob=load_blob, path=field, lazy=late)
        declared = field in cls.model_fields and field not in _LATE
        values[field] = _concrete(value) if declared else value
    if isinstance(values.get("date_modified"), str):
        values["date_modified"] = _moment(values["date_modified"])
    try:
        result = cls.model_validate(values, context=LOADING)
    except ValidationError as exc:
        first = exc.errors(include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise DecodingError(
            place,
            f"the stored {name} result {key} does not fit the class "
            f"{cls.__name__!r}: {clip(first['msg'])}",
        ) from exc
    if isinstance(result, Result):
        result.remember_stored(key, name)
    return result


_LATE: Final = frozenset({"inputs", "outputs", "config"})


def _head(tree: Mapping[str, Any]) -> tuple[str, str]:
    if not isinstance(tree, Mapping):
        raise DecodingError("", "a stored document is a dict.")
    version, key, name = tree.get("format"), tree.get("_id"), tree.get("result_type")
    if type(version) is not int or version < 1:
        raise DecodingError("format", "the stored document has no format number.")
    if version > FORMAT:
        raise DecodingError(
            "format",
            f"the stored document has format {version}; this version of prefect-lume "
            f"reads up to {FORMAT}. Install a newer one.",
        )
    if not isinstance(key, str) or len(key) != _HASH_LENGTH:
        raise DecodingError("_id", "the stored document has no unique hash.")
    if not isinstance(name, str) or not name:
        raise DecodingError("result_type", "the stored document has no result type.")
    return key, name


def _concrete(value: Any) -> Any:
    """Return a value with paths of this machine, which pydantic asks for."""
    if isinstance(value, PurePath):
        return Path(value)
    if type(value) in {list, tuple, set, frozenset}:
        return type(value)(_concrete(item) for item in value)
    if type(value) is dict:
        return {key: _concrete(item) for key, item in value.items()}
    return value


def _moment(text: str) -> Any:
    try:
        return parse_utc(text)
    except ValueError as exc:
        raise DecodingError("date_modified", f"{clip(exc, 80)}.") from exc
