"""From the text of a filter to what it says, and how long and deep it may be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from prefect_lume.errors import InvalidInputError
from prefect_lume.registry.search.problems import problem
from prefect_lume.registry.search.syntax import Junction, Node, Test

MOST_CHARACTERS: Final = 10_000
MOST_DEPTH: Final = 50
MOST_TERMS: Final = 500

_PARTS: Final = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|(?P<paren>[()])"""
)
_UNSTORABLE: Final = re.compile("[\0\ud800-\udfff]")


@lru_cache(maxsize=512)
def parse(text: str) -> Node | None:
    """Return what a filter says, or None if it is empty.

    Raises:
        InvalidInputError: It is no filter, or one beyond the limits.

    Example:
        >>> parse("version = '1.0'").operator
        '='
        >>> parse(" ") is None
        True
    """
    check_text("filter", text)
    if not text.strip():
        return None
    _check_depth(text)
    from prefect_lume.registry.search import grammar

    node = grammar.read(text)
    terms = sum(max(1, len(test.values)) for test in _tests(node))
    if terms > MOST_TERMS:
        raise InvalidInputError(
            f"The filter has {terms:,} terms; at most {MOST_TERMS} are allowed (each "
            f"value of IN counts as one). Ask in several searches."
        )
    return node


def check_text(what: str, text: object) -> None:
    """Refuse what no database could take.

    Raises:
        InvalidInputError: It is not text, too long, or holds a null character or half
            of a surrogate pair.
    """
    if not isinstance(text, str):
        raise InvalidInputError(f"The {what} must be text, not {type(text).__name__}.")
    if len(text) > MOST_CHARACTERS:
        raise InvalidInputError(
            f"The {what} has {len(text):,} characters; at most {MOST_CHARACTERS:,} "
            f"are allowed."
        )
    bad = _UNSTORABLE.search(text)
    if bad:
        kind = "a null character" if bad[0] == "\0" else "half of a surrogate pair"
        message = f"The {what} holds {kind} (U+{ord(bad[0]):04X}), which no text has."
        raise problem(what, text, bad.start(), bad.end(), message)


def _check_depth(text: str) -> None:
    depth = 0
    for found in _PARTS.finditer(text):
        depth += {"(": 1, ")": -1}.get(found["paren"] or "", 0)
        if depth > MOST_DEPTH:
            message = f"More than {MOST_DEPTH} parentheses are open."
            raise problem("filter", text, found.start(), found.end(), message)


def _tests(node: Node) -> Iterator[Test]:
    if isinstance(node, Test):
        yield node
        return
    parts: Sequence[Node] = node.parts if isinstance(node, Junction) else [node.part]
    for part in parts:
        yield from _tests(part)
