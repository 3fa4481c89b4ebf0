"""What a document and a collection's name must be, in every store alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from prefect_lume.errors import InvalidInputError, clip, name_list
from prefect_lume.results.stores.base import HEADER

#: MongoDB allows 255 bytes for database and collection together, databases 63.
MAX_COLLECTION: Final = 190
MAX_NAME: Final = 255
#: The prefix of the collections that the MongoDB store keeps for itself.
RESERVED: Final = "lume_blobs"
#: What no project's name begins with: others keep something under such names.
RESERVED_PREFIXES: Final = ("system.", RESERVED, "lume_pipelines")

_HASH = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{6}Z", re.ASCII)
_CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def check_collection(name: object) -> str:
    """Return a collection's name that every database can hold.

    Raises:
        InvalidInputError: It is not text, empty, longer than 190 bytes, has white
            space at an end, a control character or ``$``, or is reserved.

    Example:
        >>> check_collection("injector")
        'injector'
    """
    text = _check_name("project name", name)
    # The length that counts is in bytes.
    if len(text.encode()) > MAX_COLLECTION:
        raise InvalidInputError(
            f"The project name {clip(repr(text), 60)} is longer than {MAX_COLLECTION} "
            f"bytes."
        )
    if "$" in text or text.startswith((".", *RESERVED_PREFIXES)):
        raise InvalidInputError(
            f"The project name {clip(repr(text), 60)} is not allowed: it must not hold "
            f"'$' nor start with '.' or {name_list(RESERVED_PREFIXES)}."
        )
    return text


def _check_name(kind: str, name: object) -> str:
    # Many documents share a few names, and most have been seen just before.
    return _checked_text(kind, name) if type(name) is str else _checked(kind, name)


def _checked(kind: str, name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise InvalidInputError(
            f"The {kind} is text of 1 to {MAX_NAME} characters, not "
            f"{clip(repr(name), 60)}."
        )
    # Some databases pad with blanks when they compare, so that "a" equals "a ".
    if name != name.strip() or _CONTROL.search(name):
        raise InvalidInputError(
            f"The {kind} {clip(repr(name), 60)} has white space at an end, a control "
            f"character or half a surrogate pair."
        )
    return name


_checked_text = lru_cache(maxsize=256)(_checked)


def check_document(collection: str, tree: Mapping[str, Any]) -> None:
    """Check the key and the header of a document that is to be stored.

    Raises:
        InvalidInputError: One of them cannot be stored. The message names it.
    """
    check_collection(collection)
    missing = [name for name in ("_id", *HEADER) if name not in tree]
    if missing:
        raise InvalidInputError(f"A document has no field {', '.join(missing)}.")
    if not isinstance(tree["_id"], str) or not _HASH.fullmatch(tree["_id"]):
        raise InvalidInputError(
            f"A document's _id is its unique hash, 64 hexadecimal digits, not "
            f"{clip(repr(tree['_id']), 80)}."
        )
    if tree["project_name"] != collection:
        raise InvalidInputError(
            f"A document of the project {clip(repr(tree['project_name']), 60)} cannot "
            f"be stored in the collection {collection!r}."
        )
    _check_name("result type", tree["result_type"])
    for name in ("flow_id", "flow_run_id"):
        if tree[name] is not None:
            _check_name(name, tree[name])
    number = tree["deployment_id"]
    if number is not None and not (type(number) is int and abs(number) < 2**31):
        raise InvalidInputError(
            f"A deployment_id is a whole number below 2^31, not "
            f"{clip(repr(number), 60)}."
        )
    time = tree["date_modified"]
    if not isinstance(time, str) or not _TIME.fullmatch(time):
        raise InvalidInputError(
            f"date_modified is stored as YYYY-MM-DDTHH:MM:SS.ffffffZ, not "
            f"{clip(repr(time), 60)}."
        )
