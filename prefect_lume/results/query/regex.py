r"""Regular expressions that every store reads alike and that always end soon.

The subset: literal characters, ``.``, classes ``[a-z]`` and ``[^a-z]``, ``\d \w \s``
and their opposites (ASCII), ``^`` and ``$``, groups, ``|``, the quantifiers
``* + ? {m,n}``, and ``(?i)`` at the start. Left out is what Python and MongoDB read
differently (``\b``, look-around, references, named groups) and what may take
exponential time (a repeated group that itself repeats or chooses).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from prefect_lume.errors import QueryError, clip

#: Longest pattern, in characters.
MAX_LENGTH: Final = 256
#: Most unbounded quantifiers in one pattern: each adds a power to the time it takes.
MAX_UNBOUNDED: Final = 4
#: Largest count in braces.
MAX_REPEAT: Final = 255

_CLASSES: Final = {
    "d": "0-9",
    "w": "A-Za-z0-9_",
    "s": " \\t\\n\\r\\f\\v",
}
_CONTROLS: Final = frozenset("tnrfv")
_BRACES = re.compile(r"\{(\d{1,3})(,(\d{0,3}))?\}")
_PUNCTUATION: Final = frozenset("\\.^$*+?{}[]()|/-\"'#&~<>=!,:;@%_` ")


@dataclass
class _Group:
    start: int
    complex: bool = False


class _Reader:
    """Reads a pattern once and writes it in the form that all engines share."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.position = 0
        self.out: list[str] = []
        self.groups: list[_Group] = []
        self.unbounded = 0
        # What a quantifier would apply to: nothing, an atom, or a closed group.
        self.last: _Group | str | None = None

    def fail(self, why: str) -> QueryError:
        return QueryError(
            f"$regex {clip(repr(self.pattern), 80)}: {why} (at character "
            f"{self.position + 1}). Allowed: literals, . [] \\d \\w \\s ^ $ () | "
            f"* + ? {{m,n}} and (?i) at the start."
        )

    def read(self) -> str:
        if self.pattern.startswith("(?i)"):
            self.out.append("(?i)")
            self.position = 4
        while self.position < len(self.pattern):
            self._one(self.pattern[self.position])
        if self.groups:
            raise self.fail("a group is not closed")
        return "".join(self.out)

    def _one(self, char: str) -> None:
        if char == "(":
            self._open()
        elif char == ")":
            self._close()
        elif char == "[":
            self._class()
        elif char == "\\":
            self.out.append(self._escape(in_class=False))
            self.last = "atom"
        elif char in "*+?{":
            self._quantifier()
        elif char in "]}":
            raise self.fail(f"a lone {char!r}: write \\{char}")
        elif char == "|":
            for group in self.groups:
                group.complex = True
            self._emit(char, None)
        else:
            self._emit(char, None if char in "^$" else "atom")

    def _emit(self, text: str, last: str | None) -> None:
        self.out.append(text)
        self.position += len(text)
        self.last = last

    def _open(self) -> None:
        rest = self.pattern[self.position :]
        if rest.startswith("(?") and not rest.startswith("(?:"):
            raise self.fail("only plain groups and (?:...) are allowed")
        self.groups.append(_Group(self.position))
        self._emit("(?:" if rest.startswith("(?:") else "(", None)

    def _close(self) -> None:
        if not self.groups:
            raise self.fail("a ')' without its '('")
        group = self.groups.pop()
        self._emit(")", None)
        self.last = group

    def _class(self) -> None:
        end = self.position + 1
        self.out.append("[")
        if self.pattern[end : end + 1] == "^":
            self.out.append("^")
            end += 1
        self.position = end
        while True:
            char = self.pattern[self.position : self.position + 1]
            if not char:
                raise self.fail("a '[' is not closed")
            if char == "]":
                break
            if char == "\\":
                self.out.append(self._escape(in_class=True))
            elif char in "[&~|" or (char == "-" and self._doubled("-")):
                # Python warns of, and others read, set operations here.
                self.out.append(f"\\{char}")
                self.position += 1
            else:
                self.out.append(char)
                self.position += 1
        if self.position == end:
            raise self.fail("an empty class")
        self._emit("]", "atom")

    def _doubled(self, char: str) -> bool:
        return self.pattern[self.position : self.position + 2] == char * 2

    def _escape(self, *, in_class: bool) -> str:
        char = self.pattern[self.position + 1 : self.position + 2]
        if char in _CONTROLS or char in _PUNCTUATION:
            text = f"\\{char}" if char not in "\"'/ " else char
        elif char in _CLASSES:
            text = _CLASSES[char] if in_class else f"[{_CLASSES[char]}]"
        elif char.lower() in _CLASSES and not in_class:
            text = f"[^{_CLASSES[char.lower()]}]"
        else:
            raise self.fail(f"the escape \\{char} is not allowed")
        self.position += 2
        return text

    def _quantifier(self) -> None:
        if self.last is None:
            raise self.fail("a quantifier with nothing before it")
        text, most = self._count()
        if isinstance(self.last, _Group) and self.last.complex and most != 1:
            raise self.fail(
                "a repeated group must not itself hold a quantifier or a '|'"
            )
        if most is None:
            self.unbounded += 1
            if self.unbounded > MAX_UNBOUNDED:
                raise self.fail(f"more than {MAX_UNBOUNDED} unbounded quantifiers")
        for group in self.groups:
            group.complex = True
        self._emit(text, None)
        if self.pattern[self.position : self.position + 1] == "?":
            self._emit("?", None)

    def _count(self) -> tuple[str, int | None]:
        """Return the quantifier's text and its greatest count, None if unbounded."""
        char = self.pattern[self.position]
        if char != "{":
            return char, 1 if char == "?" else None
        found = _BRACES.match(self.pattern, self.position)
        if not found:
            raise self.fail("a lone '{': write \\{")
        least, comma, greatest = found.groups()
        most = int(greatest) if greatest else None if comma else int(least)
        if most is not None and not int(least) <= most <= MAX_REPEAT:
            raise self.fail(f"a count is reversed or above {MAX_REPEAT}")
        return found.group(), most


def canonical_regex(pattern: object) -> str:
    r"""Check a regular expression and return it as every store shall run it.

    Args:
        pattern: At most 256 characters, in the subset of this module.

    Returns:
        A pattern of the same meaning in Python and in MongoDB.

    Raises:
        QueryError: It is outside the subset, or may take exponential time.

    Example:
        >>> canonical_regex(r"^run-\d+$")
        '^run-[0-9]+$'
    """
    if not isinstance(pattern, str):
        raise QueryError(
            f"$regex takes the pattern as text, not {type(pattern).__name__}."
        )
    if len(pattern) > MAX_LENGTH:
        raise QueryError(
            f"$regex takes at most {MAX_LENGTH} characters, not {len(pattern)}."
        )
    if "\0" in pattern:
        raise QueryError("$regex must not hold the character U+0000.")
    canonical = _Reader(pattern).read()
    try:
        re.compile(canonical)
    except re.error as error:
        raise QueryError(f"$regex {clip(repr(pattern), 80)}: {error}.") from error
    return canonical
