"""The grammar of filters, and the parser that lark makes of it.

Imported when the first filter is read, and not before: making it takes a while.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from prefect_lume.errors import InvalidInputError, clip, suggestion
from prefect_lume.registry.search.problems import problem
from prefect_lume.registry.search.syntax import (
    OPERATORS,
    Junction,
    Negation,
    Node,
    Operator,
    Path,
    Test,
    Value,
)

_GRAMMAR: Final = r"""
start: any
any: every (_OR every)*
every: no (_AND no)*
?no: NOT no -> negation
   | "(" any ")"
   | test
test: path                                     -> bare
    | path COMPARE value                       -> compared
    | path NOT? IN "(" value ("," value)* ")"  -> compared
    | path NOT? MATCH value                    -> compared
    | path NOT? BETWEEN value _AND value       -> compared
    | path IS NOT? NULL                        -> null
path: NAME ("." (KEY | DOUBLE | BACKTICK))*
value: SINGLE | DOUBLE | NUMBER | TRUE | FALSE | NOW

_OR.1: /or(?!\w)/i
_AND.1: /and(?!\w)/i
NOT.1: /not(?!\w)/i
IN.1: /in(?!\w)/i
MATCH.1: /(i?like|contains)(?!\w)/i
BETWEEN.1: /between(?!\w)/i
IS.1: /is(?!\w)/i
NULL.1: /null(?!\w)/i
TRUE.1: /true(?!\w)/i
FALSE.1: /false(?!\w)/i
NOW.1: /now(?!\w)/i
COMPARE: /<=|>=|<>|!=|=|<|>/
NAME: /[^\W\d]\w*/
KEY: /\w[\w-]*/
SINGLE: /'([^']|'')*'/
DOUBLE: /"([^"]|"")*"/
BACKTICK: /`([^`]|``)*`/
NUMBER: /[-+]?[0-9][\w.:+-]*/
%ignore /\s+/
"""
#: How a message calls what may come next.
_CALLED: Final = {
    "NAME": "a field",
    "SINGLE": "a value",
    "COMPARE": "an operator",
    "IN": "IN",
    "MATCH": "LIKE",
    "BETWEEN": "BETWEEN",
    "KEY": "a key",
    "_AND": "AND",
    "_OR": "OR",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "NOT": "NOT",
    "NULL": "NULL",
    "$END": "the end",
}
_WHOLE: Final = re.compile(r"[-+]?[0-9]{1,11}\Z")
_FRACTION: Final = re.compile(r"[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?\Z")
_SIGNS: Final = re.compile(r"[=!<>~&|]+")
_WORD: Final = re.compile(r"[^\s()'\",]+")


def read(text: str) -> Node:
    """Return what a filter that is not empty says.

    Raises:
        InvalidInputError: It is not of the language.
    """
    try:
        # The tree is what the transformer made of it.
        return cast("Node", _parser().parse(text))
    except UnexpectedInput as error:
        raise _explained(text, error) from None
    except _RefusedError as error:
        raise problem("filter", text, error.start, error.end, str(error)) from None


class _RefusedError(Exception):
    """A word of the filter is well placed, but is not what it should be."""

    def __init__(self, token: Token, message: str) -> None:
        super().__init__(message)
        self.start, self.end = token.start_pos or 0, token.end_pos or 0


class _Nodes(Transformer[Token, Any]):
    """Makes the nodes of the tree while the filter is being parsed."""

    def start(self, parts: list[Any]) -> Node:
        (node,) = parts
        return cast("Node", node)

    def any(self, parts: list[Any]) -> Node:
        return _joined(parts, every=False)

    def every(self, parts: list[Any]) -> Node:
        return _joined(parts, every=True)

    def negation(self, parts: list[Any]) -> Node:
        _, part = parts
        return part.part if isinstance(part, Negation) else Negation(part)

    def path(self, parts: list[Token]) -> Path:
        return Path(
            tuple(_unquoted(part) for part in parts),
            parts[0].start_pos or 0,
            parts[-1].end_pos or 0,
        )

    def value(self, parts: list[Token]) -> Value:
        (token,) = parts
        return Value(_content(token), token.start_pos or 0, token.end_pos or 0)

    def bare(self, parts: list[Any]) -> Test:
        (path,) = parts
        return Test(path, "is", start=path.start, end=path.end)

    def compared(self, parts: list[Any]) -> Test:
        path, *rest = parts
        words = [part for part in rest if isinstance(part, Token)]
        values = tuple(part for part in rest if isinstance(part, Value))
        name = words[-1].lower()
        return Test(
            path,
            cast("Operator", "!=" if name == "<>" else name),
            values,
            negated=len(words) > 1,
            start=words[0].start_pos or 0,
            end=words[-1].end_pos or 0,
        )

    def null(self, parts: list[Any]) -> Node:
        path, *words = parts
        start, end = words[0].start_pos or 0, words[-1].end_pos or 0
        test = Test(path, "null", start=start, end=end)
        return Negation(test) if len(words) > 2 else test


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Nodes(), maybe_placeholders=False)


def _joined(parts: list[Node], *, every: bool) -> Node:
    if len(parts) == 1:
        return parts[0]
    flat: list[Node] = []
    for part in parts:
        same = isinstance(part, Junction) and part.every == every
        flat.extend(part.parts if same and isinstance(part, Junction) else [part])
    return Junction(every, tuple(flat))


def _unquoted(token: Token) -> str:
    if token.type in {"SINGLE", "DOUBLE", "BACKTICK"}:
        quote = token[0]
        return str(token[1:-1]).replace(quote * 2, quote)
    return str(token)


def _content(token: Token) -> str | int | bool | None:
    if token.type in {"SINGLE", "DOUBLE"}:
        return _unquoted(token)
    if token.type != "NUMBER":
        return {"TRUE": True, "FALSE": False, "NOW": None}[token.type]
    if _WHOLE.match(token):
        number = int(token)
        if -(2**31) <= number < 2**31:
            return number
    if _FRACTION.match(token):
        raise _RefusedError(
            token,
            f"{clip(token, 40)} is no whole number of at most 32 bits, as ids are. "
            f"Write a text (a version, a tag's value) in quotes.",
        )
    raise _RefusedError(
        token, f"A text or date is written in quotes: '{clip(token, 40)}'."
    )


def _explained(text: str, error: UnexpectedInput) -> InvalidInputError:
    """Return the error that says what is wrong in the language's own words."""
    start = len(text)
    end, expected = start, set[str]()
    if isinstance(error, UnexpectedToken):
        expected = set(error.accepts or error.expected)
        if error.token.type != "$END":
            start, end = error.token.start_pos or 0, error.token.end_pos or 0
    elif isinstance(error, UnexpectedCharacters):
        expected = set(error.allowed or ())
        start = cast("int", error.pos_in_stream)
        end = start + 1
    return problem("filter", text, start, *_reason(text, start, end, expected))


def _reason(text: str, start: int, end: int, expected: set[str]) -> tuple[int, str]:
    """Return where what is wrong ends, and what is wrong."""
    words = {"IN", "MATCH", "BETWEEN"} if "COMPARE" in expected else set()
    called = [name for key, name in _CALLED.items() if key in expected - words]
    allowed = f" Expected {' or '.join(called)}." if called else ""
    if start >= len(text):
        return start, f"The filter ends too early.{allowed}"
    if text[start] in "'\"`" and end == start + 1:
        return end, f"The quote {text[start]} is not closed."
    signs, word = _SIGNS.match(text, start), _WORD.match(text, start)
    found = word if signs is None else signs
    if "COMPARE" in expected and found:
        return found.end(), _no_operator(found[0], ends="$END" in expected)
    if "SINGLE" in expected and signs:
        # The first sign of "==" was read as an operator.
        whole = _SIGNS.search(text, len(text[:start].rstrip("=!<>~&|"))) or signs
        return signs.end(), _no_operator(whole[0], ends=False)
    if "SINGLE" in expected and word:
        return word.end(), f"A text is written in quotes: '{clip(word[0], 40)}'."
    shown = word[0] if word else text[start]
    return start + len(shown), f"{clip(shown, 40)!r} is not expected here.{allowed}"


def _no_operator(found: str, *, ends: bool) -> str:
    same = {"==": "=", "=<": "<=", "=>": ">=", "~": "LIKE", "=~": "LIKE", "!": "!="}
    near = same.get(found)
    hint = f" Did you mean {near!r}?" if near else suggestion(found.upper(), OPERATORS)
    what = "neither AND, OR nor an operator" if ends else "no operator"
    return f"{clip(found, 40)!r} is {what}.{hint} Operators: {', '.join(OPERATORS)}."
