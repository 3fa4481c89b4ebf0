"""What to say when a filter cannot be read: where it is, and what would be right."""

from __future__ import annotations

import unicodedata
from typing import Final

from prefect_lume.errors import InvalidInputError, clip

#: Characters shown on each side of the place.
_AROUND: Final = 60
#: Most signs in the line that points at the place.
_MOST_CARETS: Final = 60


def problem(
    what: str, text: str, start: int, end: int, message: str
) -> InvalidInputError:
    """Return the error for a place in a text, with a line that points at it.

    Args:
        what: What the text is: ``"filter"`` or ``"order"``.
        text: The whole text.
        start: Where the wrong part begins.
        end: Where it ends; the same as ``start`` for something that is missing.
        message: What is wrong and what is allowed.

    Example:
        >>> print(problem("filter", "a b", 2, 3, "No operator."))
        No operator. At character 3 of the filter:
          a b
            ^
    """
    first = max(0, start - _AROUND)
    before = ("…" if first else "") + _line(text[first:start])
    after = _line(text[start : start + _AROUND])
    more = "…" if start + _AROUND < len(text) else ""
    carets = "^" * max(1, min(end - start, len(after), _MOST_CARETS))
    return InvalidInputError(
        f"{clip(message, 600)} At character {start + 1} of the {what}:\n"
        f"  {before}{after}{more}\n"
        f"  {' ' * len(before)}{carets}"
    )


def _line(text: str) -> str:
    # As many characters as before, so that the carets stay under their place.
    return "".join(
        " " if unicodedata.category(sign)[0] in "CZ" else sign for sign in text
    )
