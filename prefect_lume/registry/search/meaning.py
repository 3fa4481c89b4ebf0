"""From what a filter says to what it means: fields are known, values have their types.

Logic has two values. A test is true if *some* value of its field passes it, and false
otherwise, also where there is no value; NOT is the opposite of the whole test. NOT is
moved down to the tests here, as SQL's own would leave out rows with NULL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

from prefect_lume.errors import InvalidInputError, clip
from prefect_lume.registry.search import times
from prefect_lume.registry.search.fields import Field, Kind, Target, resolve
from prefect_lume.registry.search.parsing import parse
from prefect_lume.registry.search.problems import problem
from prefect_lume.registry.search.syntax import Junction, Negation, Node, Test, Value

Asked = Literal[
    "=", "<", "<=", ">", ">=", "in", "like", "ilike", "contains", "between", "any"
]
"""What is asked of a value; ``any``: only that there is one."""

_ORDERED: Final = {"=", "!=", "<", "<=", ">", ">=", "in", "between", "null"}
_TEXT: Final = _ORDERED | {"like", "ilike", "contains"}
_ALLOWED: Final[dict[Kind, set[str]]] = {
    Kind.TEXT: _TEXT,
    Kind.SHA: _TEXT,
    Kind.NUMBER: _ORDERED,
    Kind.DATE: _ORDERED | {"is"},
    Kind.FLAG: {"=", "!=", "is", "null"},
    Kind.LIVE: {"=", "!=", "is", "null"},
    Kind.WORDS: {"contains"},
}
_SHA: Final = re.compile(r"[0-9a-fA-F]{64}\Z")


@dataclass(frozen=True, eq=False)
class Term:
    """One test.

    Attributes:
        field: What is tested.
        asked: How.
        values: With what.
        negated: A value passes if it does *not* fit.
        absent: The term is true if no value passes.
    """

    field: Field
    asked: Asked
    values: tuple[Any, ...] = ()
    negated: bool = False
    absent: bool = False


@dataclass(frozen=True, eq=False)
class Group:
    """All of the parts, or any of them; there are two at least."""

    every: bool
    parts: tuple[Meaning, ...]


Meaning = Term | Group


@lru_cache(maxsize=512)
def understand(target: Target, text: str) -> Meaning | None:
    """Return what a filter means, or None if it is empty.

    Raises:
        InvalidInputError: It cannot be read, names what is not there, or compares a
            field with what it cannot be compared with.
    """
    node = parse(text)
    return None if node is None else _meaning(text, target, node, opposite=False)


def terms(meaning: Meaning | None) -> Iterator[Term]:
    """Yield the tests of a filter."""
    if isinstance(meaning, Term):
        yield meaning
    elif meaning is not None:
        for part in meaning.parts:
            yield from terms(part)


def conjuncts(meaning: Meaning | None) -> Sequence[Meaning]:
    """Return what must hold altogether."""
    if isinstance(meaning, Group) and meaning.every:
        return meaning.parts
    return () if meaning is None else (meaning,)


def _meaning(text: str, target: Target, node: Node, *, opposite: bool) -> Meaning:
    if isinstance(node, Negation):
        return _meaning(text, target, node.part, opposite=not opposite)
    if isinstance(node, Junction):
        every = node.every is not opposite
        parts: list[Meaning] = []
        for part in node.parts:
            found = _meaning(text, target, part, opposite=opposite)
            same = isinstance(found, Group) and found.every == every
            parts.extend(found.parts if same and isinstance(found, Group) else [found])
        return Group(every, tuple(parts))
    return _term(text, resolve(text, target, node.path), node, opposite=opposite)


def _term(text: str, field: Field, test: Test, *, opposite: bool) -> Term:
    if test.operator not in _ALLOWED[field.kind]:
        raise _unfit(text, field, test)
    if test.operator == "null":
        return Term(field, "any", absent=not opposite)
    if test.operator == "is":
        if field.kind is Kind.DATE:
            return Term(field, "any", absent=opposite)
        return Term(field, "=", (True,), absent=opposite)
    values = tuple(_value(text, field, test, value) for value in test.values)
    negated = test.negated or test.operator == "!="
    if field.kind is Kind.WORDS:
        return Term(field, "contains", values, absent=negated is not opposite)
    asked: Asked = "=" if test.operator == "!=" else test.operator
    if field.kind in {Kind.FLAG, Kind.LIVE} and negated:
        return Term(field, asked, (not values[0],), absent=opposite)
    return Term(field, asked, values, negated, opposite)


def _unfit(text: str, field: Field, test: Test) -> InvalidInputError:
    name = clip(field.name, 60)
    if field.kind is Kind.WORDS:
        message = (
            f"{name} is searched by CONTAINS only, in any case of its letters: "
            f"{name} CONTAINS 'linac'."
        )
    elif test.operator == "is":
        message = (
            f"{name} is not true or false by itself (it is {field.kind.value}): compare"
            f" it, or ask whether there is one: {name} IS NOT NULL."
        )
    else:
        allowed = ", ".join(
            word.upper() for word in sorted(_ALLOWED[field.kind] - {"is", "null"})
        )
        message = (
            f"{name} is {_kind(field)} and knows no {test.operator.upper()}. "
            f"Allowed: {allowed}, IS NULL."
        )
    return problem("filter", text, test.start, test.end, message)


def _kind(field: Field) -> str:
    return "true or false" if field.kind is Kind.LIVE else field.kind.value


def _value(text: str, field: Field, test: Test, value: Value) -> Any:
    """Return a value as the field's type has it."""
    name = clip(field.name, 60)
    written = clip(text[value.start : value.end], 40)
    try:
        if field.kind is Kind.DATE:
            return _date(name, value.content, written)
        if field.kind in {Kind.TEXT, Kind.SHA, Kind.WORDS}:
            return _text(name, field.kind, test, value.content, written)
        wanted = int if field.kind is Kind.NUMBER else bool
        if type(value.content) is not wanted:
            raise TypeError(f"{name} is {_kind(field)}, written without quotes.")
    except (TypeError, ValueError) as error:
        raise problem("filter", text, value.start, value.end, str(error)) from None
    return value.content


def _date(name: str, content: object, written: str) -> times.When:
    if content is not None and not isinstance(content, str):
        raise TypeError(f"{name} is a date, in quotes. {times.ALLOWED}")
    try:
        return times.read("now" if content is None else content)
    except ValueError as error:
        raise ValueError(f"{written} {error}") from None


def _text(name: str, kind: Kind, test: Test, content: object, written: str) -> str:
    if not isinstance(content, str):
        raise TypeError(f"{name} is text: write the value in quotes: '{written}'.")
    if kind is Kind.WORDS:
        return content.casefold()
    return _sha(name, test, content) if kind is Kind.SHA else content


def _sha(name: str, test: Test, content: str) -> str:
    if test.operator in {"=", "!=", "in"}:
        if _SHA.match(content):
            return content.lower()
        raise ValueError(
            f"{name} has 64 hexadecimal digits. By its beginning it is found so: "
            f"{name} LIKE 'ab12%'."
        )
    if not content.isascii():
        raise ValueError(f"{name} has hexadecimal digits only.")
    return content
