"""Keys of stored dicts: escaped where a database would read them as something else."""

from __future__ import annotations

import re
from typing import Final

#: The key that marks an envelope.
MARK: Final = "__lume__"

_SPECIAL: Final = re.compile(r"[.%\0]")
_ESCAPE: Final = re.compile(r"%([0-9A-F]{2})")
_EMPTY: Final = "%"
_ESCAPED_MARK: Final = "%5F" + MARK[1:]


def escape_key(key: str) -> str:
    """Return a dict's key as it is stored.

    ``.``, ``%``, NUL and a leading ``$`` become ``%2E``, ``%25``, ``%00`` and
    ``%24``, because MongoDB reads them as paths and operators. The empty key becomes
    ``%``, and the envelope's own mark ``%5F_lume__``. All other keys stay as they
    are.

    Example:
        >>> escape_key("beam.x"), escape_key("$set"), escape_key("100%")
        ('beam%2Ex', '%24set', '100%25')
    """
    if not key:
        return _EMPTY
    if key == MARK:
        return _ESCAPED_MARK
    if _SPECIAL.search(key):
        key = _SPECIAL.sub(lambda hit: f"%{ord(hit[0]):02X}", key)
    return "%24" + key[1:] if key[0] == "$" else key


def unescape_key(key: str) -> str:
    """Return the key that :func:`escape_key` stored.

    Example:
        >>> unescape_key("beam%2Ex")
        'beam.x'
    """
    if "%" not in key:
        return key
    if key == _EMPTY:
        return ""
    return _ESCAPE.sub(lambda hit: chr(int(hit[1], 16)), key)
