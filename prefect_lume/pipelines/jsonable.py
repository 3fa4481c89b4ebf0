"""Objects and parameters as JSON, to be looked at later; never to be run from."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

from pydantic_core import to_jsonable_python

from prefect_lume.errors import clip

#: Characters of JSON that are kept of one object.
LIMIT: Final = 16_384


def jsonable(value: Any, limit: int = LIMIT) -> Any:
    """Return a value as JSON, or what can be said of it if it is none or too long.

    Args:
        value: Any value. Secrets of pydantic come out as stars.
        limit: Characters of JSON up to which a value is kept as it is.

    Returns:
        JSON data; ``{"type": ..., "repr": ...}`` for what has no JSON form, and the
        same with its beginning for what is longer than ``limit``.

    Example:
        >>> jsonable({"charge": 1e-9, 3: (1, 2)})
        {'charge': 1e-09, '3': [1, 2]}
    """
    try:
        plain = to_jsonable_python(value, fallback=_described, inf_nan_mode="strings")
        text = json.dumps(_finite(plain), allow_nan=False)
    except (ValueError, TypeError, RecursionError):
        return _described(value)
    if len(text) > limit:
        return {"type": _type_name(value), "repr": clip(text, limit // 8)}
    return storable(json.loads(text))


#: What some database cannot keep as text: U+0000, and halves of surrogate pairs.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Tell whether every database can keep a text as it is."""
    if text.isascii():
        return "\0" not in text
    return _UNSTORABLE.search(text) is None


def storable_text(text: str) -> str:
    r"""Return a text with what some database cannot keep as Python would write it.

    That is U+0000, and halves of surrogate pairs, which are no characters: ``\x00``
    and the like stand in their place, the same in every storage.

    Example:
        >>> storable_text("a\0b")
        'a\\x00b'
    """
    return _UNSTORABLE.sub(lambda found: repr(found[0])[1:-1], text)


def storable(value: Any) -> Any:
    """Return JSON with every text in it as :func:`storable_text` returns it."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, dict):
        return {storable_text(key): storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [storable(item) for item in value]
    return value


def _finite(value: Any) -> Any:
    # Databases take no NaN in JSON: it becomes the text that Python would print.
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value


def _described(value: Any) -> dict[str, str]:
    try:
        shown = repr(value)
    except Exception as error:  # noqa: BLE001 - whatever a foreign repr raises.
        shown = f"repr raised {type(error).__name__}"
    return {"type": _type_name(value), "repr": clip(shown)}


def _type_name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"
