"""What a value must be before it reaches the database.

Drivers differ in what they do with a value that does not fit: cut it, refuse it,
round it or take ``"1abc"`` for 1. So nothing that does not fit gets that far.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from prefect_lume.errors import InvalidInputError, clip

#: The most characters of a name, of a path or image, and of a source URI.
NAME_LENGTH: Final = 255
PATH_LENGTH: Final = 1024
SOURCE_LENGTH: Final = 16_000
FLOW_ID_LENGTH: Final = 36
#: The most bytes of a lock or of one JSON value: below the 16 MiB that a server takes
#: in one packet by default, with room for escapes.
LONG_BYTES: Final = 7 * 1024 * 1024
#: The most characters of a description or reason, of a tag's value, and of its
#: beginning that is in an index.
DESCRIPTION_LENGTH: Final = 4_000
TAG_LENGTH: Final = 5_000
TAG_START: Final = 120
#: Aliases that name what every model has without anybody setting them.
RESERVED_ALIASES: Final = ("latest", "live")
#: The largest number that an integer column holds.
LARGEST_INTEGER: Final = 2**31 - 1

_LARGEST_JSON_INTEGER: Final = 2**63 - 1
_JSON_DEPTH: Final = 50
_ALIAS: Final = re.compile(r"[^\W_][\w.\-]*\Z")
_VERSION_ALIAS: Final = re.compile(r"v?\d+\Z", re.IGNORECASE)
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}\Z")


def text(
    field: str,
    value: object,
    limit: int = NAME_LENGTH,
    *,
    empty: bool = False,
    in_bytes: bool = False,
) -> str:
    """Return ``value`` if it is text that every database stores unchanged.

    Args:
        field: Its name, for the message.
        value: What was given.
        limit: The most characters (or bytes of UTF-8, with ``in_bytes``).
        empty: Whether it may be empty.
        in_bytes: What the limit counts.

    Raises:
        InvalidInputError: It is not text, empty, too long, or holds a null character
            or half of a surrogate pair.

    Example:
        >>> text("author", "Jackie")
        'Jackie'
    """
    if not isinstance(value, str):
        raise InvalidInputError(f"{field} must be text, not {type(value).__name__}.")
    if not value and not empty:
        raise InvalidInputError(f"{field} must not be empty.")
    _storable(field, value)
    length = len(value.encode()) if in_bytes else len(value)
    if length > limit:
        unit = "bytes" if in_bytes else "characters"
        raise InvalidInputError(
            f"{field} is {length:,} {unit} long; at most {limit:,} are allowed: "
            f"{clip(value, 40)!r}."
        )
    return value


def optional_text(field: str, value: object, limit: int = NAME_LENGTH) -> str | None:
    """Return ``None``, or ``value`` checked as :func:`text` does."""
    return None if value is None else text(field, value, limit)


def lock(value: object) -> str | None:
    """Return ``None``, or a lock's text, checked."""
    if value is None:
        return None
    return text("lock", value, LONG_BYTES, in_bytes=True)


def _storable(field: str, value: str) -> None:
    if "\0" in value:
        raise InvalidInputError(f"{field} must not hold a null character (U+0000).")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"{field} holds half of a surrogate pair at character {error.start}, "
            f"which is not text."
        ) from error


def sha256(field: str, value: object) -> str:
    """Return a SHA-256 as 64 lower-case hexadecimal digits.

    Raises:
        InvalidInputError: It is anything else.
    """
    if not isinstance(value, str) or not _SHA256.match(value):
        raise InvalidInputError(
            f"{field} must be a SHA-256: 64 hexadecimal digits, not "
            f"{clip(repr(value), 80)}."
        )
    return value.lower()


def integer(field: str, value: object) -> int:
    """Return ``value`` if it is a whole number from 1 that an id column holds.

    Raises:
        InvalidInputError: It is anything else (``True`` and ``"1"`` included).
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInputError(
            f"{field} must be a whole number, not {clip(repr(value), 60)}."
        )
    if not 1 <= value <= LARGEST_INTEGER:
        raise InvalidInputError(
            f"{field} must be between 1 and {LARGEST_INTEGER:,}, not {value}."
        )
    return value


def optional_integer(field: str, value: object) -> int | None:
    """Return ``None``, or ``value`` checked as :func:`integer` does."""
    return None if value is None else integer(field, value)


def boolean(field: str, value: object) -> bool:
    """Return ``value`` if it is ``True`` or ``False``.

    Raises:
        InvalidInputError: It is anything else.
    """
    if not isinstance(value, bool):
        raise InvalidInputError(
            f"{field} must be True or False, not {clip(repr(value), 60)}."
        )
    return value


def entrypoints(value: object) -> dict[str, str]:
    """Return the flows that a package offers, checked: name → ``module:attribute``.

    Raises:
        InvalidInputError: A name or target is not of that form.

    Example:
        >>> entrypoints({"track": "injector.flows:track"})
        {'track': 'injector.flows:track'}
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInputError(
            f"entrypoints must map flow names to 'module:attribute', not be "
            f"{type(value).__name__}."
        )
    checked: dict[str, str] = {}
    for name, target in value.items():
        text("a flow's name in entrypoints", name)
        where = f"entrypoints[{clip(name, 60)!r}]"
        text(where, target, PATH_LENGTH)
        module, colon, attribute = target.partition(":")
        if not (module and colon and attribute):
            raise InvalidInputError(
                f"{where} must have the form 'module:attribute', not "
                f"{clip(target, 80)!r}."
            )
        checked[name] = target
    return checked


def alias(value: object) -> str:
    """Return an alias, checked: letters, digits, ``_``, ``-`` and ``.``.

    Raises:
        InvalidInputError: It is anything else, one of the reserved words, or a mere
            number, which would be taken for a version or an id.

    Example:
        >>> alias("2026-beamtime")
        '2026-beamtime'
    """
    name = text("alias", value)
    if name.lower() in RESERVED_ALIASES:
        raise InvalidInputError(
            f"The alias {name!r} is reserved: every model has "
            f"{' and '.join(RESERVED_ALIASES)} without setting them. Choose another "
            f"word."
        )
    if _VERSION_ALIAS.match(name):
        raise InvalidInputError(
            f"The alias {clip(name, 60)!r} would be taken for a version or a number. "
            f"Add a word to it, for example {'release-' + clip(name, 60)!r}."
        )
    if not _ALIAS.match(name):
        raise InvalidInputError(
            f"An alias has letters, digits, '_', '-' and '.' only, and begins with a "
            f"letter or digit; {clip(name, 60)!r} does not."
        )
    return name


def tags(value: object, *, removal: bool = False) -> dict[str, Any]:
    """Return tags, checked: key → text.

    Args:
        value: A mapping.
        removal: Whether a value may be ``None``, which removes the tag.

    Raises:
        InvalidInputError: It is no mapping, or a key or value is not such text.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInputError(
            f"tags must map keys to text, not be {type(value).__name__}."
        )
    checked: dict[str, Any] = {}
    for key, item in value.items():
        text("a tag's key", key)
        if item is None and removal:
            checked[key] = None
        else:
            checked[key] = text(
                f"the tag {clip(key, 60)!r}", item, TAG_LENGTH, empty=True
            )
    return checked


def json_object(field: str, value: object) -> dict[str, Any]:
    """Return a mapping as plain JSON data that every database gives back unchanged.

    Args:
        field: Its name, for the message.
        value: A mapping with text as keys, of text, finite numbers, booleans, ``None``,
            and lists and mappings of these, at most 50 deep.

    Raises:
        InvalidInputError: It holds anything else; the message says where.

    Example:
        >>> json_object("parameters", {"steps": (1, 2)})
        {'steps': [1, 2]}
    """
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{field} must be a mapping, not {_kind(value)}.")
    plain: dict[str, Any] = _plain(field, value, 0)
    return plain


def _plain(path: str, value: object, depth: int) -> Any:
    if depth > _JSON_DEPTH:
        raise InvalidInputError(f"{clip(path)} is nested more than {_JSON_DEPTH} deep.")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        _storable(path, value)
        return str(value)
    if isinstance(value, int):
        if abs(value) > _LARGEST_JSON_INTEGER:
            raise InvalidInputError(f"{path} is a whole number of more than 64 bits.")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInputError(f"{path} is {value}, which JSON does not know.")
        return float(value)
    if isinstance(value, Mapping):
        return {
            _key(path, key): _plain(f"{path}.{key}", item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [
            _plain(f"{path}[{index}]", item, depth + 1)
            for index, item in enumerate(value)
        ]
    raise InvalidInputError(
        f"{path} is {_kind(value)}, which has no JSON form. Allowed are text, finite "
        f"numbers, True, False, None, and lists and mappings of these."
    )


def _key(path: str, key: object) -> str:
    if not isinstance(key, str):
        raise InvalidInputError(
            f"{path} has the key {clip(repr(key), 60)}; keys must be text."
        )
    _storable(f"a key of {path}", key)
    return str(key)


def _kind(value: object) -> str:
    return f"a value of type {type(value).__name__}"
