"""How each SQL server reads values out of JSON documents."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import Final

from sqlalchemy import (
    BINARY,
    JSON,
    Dialect,
    Double,
    Text,
    and_,
    case,
    cast,
    collate,
    false,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.sql.selectable import LateralFromClause

from prefect_lume.results.stores.sql import asked as sql_asked
from prefect_lume.results.stores.sql import tables as sql_tables
from prefect_lume.results.stores.sql.asked import Asked, Number
from prefect_lume.results.stores.sql.values import (
    COMPARE,
    DOCUMENT,
    Expression,
    Values,
    by_band,
    by_first,
    dotted,
    one_of,
    text_outcome,
    zone,
)

#: Since this version the path operators exist (``->`` gives a value's JSON text).
_SQLITE: Final = (3, 38)
#: No float needs more characters; a longer whole number might overflow one.
_LONGEST: Final = 24
#: So many digits do not overflow one.
_MOST_DIGITS: Final = 300
_ZERO: Final[Expression] = literal_column("0e0", Double)


def values_of(dialect: Dialect) -> Values | None:
    """Return the reader for a database, or None if it cannot read JSON."""
    if dialect.name == "sqlite":
        fit = (dialect.server_version_info or (0,)) >= _SQLITE
        return SQLiteValues() if fit else None
    if dialect.name in {"mysql", "mariadb"}:
        return MySQLValues(canonical=bool(getattr(dialect, "is_mariadb", False)))
    return PostgreSQLValues() if dialect.name == "postgresql" else None


class SQLiteValues(Values):
    """SQLite parses a document once for all functions of a statement."""

    def text(self, path: Sequence[str]) -> Expression:
        """Return a value's JSON text; see the base class."""
        return DOCUMENT.op("->")(dotted(path))

    def number(self, path: Sequence[str]) -> Expression:
        """Return about the number at a path; see the base class."""
        where = dotted(path)
        kinds = dict.fromkeys(("integer", "real"), func.json_extract(DOCUMENT, where))
        return type_coerce(
            case(kinds, value=func.json_type(DOCUMENT, where), else_=null()), Double
        )

    def is_list(self, path: Sequence[str]) -> Expression:
        """Return whether there is a list at a path; see the base class."""
        return func.json_type(DOCUMENT, dotted(path)) == "array"

    def answer(
        self, path: Sequence[str], asked: Asked, absent: Expression
    ) -> Expression:
        """Return the answer, absence known; see the base class."""
        where = dotted(path)
        value = func.json_extract(DOCUMENT, where)
        text = self.text(path)
        outcomes = self.outcomes(
            path,
            asked,
            text_outcome(
                asked,
                text,
                # Where U+0000 is in it, versions differ in what follows.
                case((func.instr(text, "\\u0000") > 0, null()), else_=value),
            ),
        )
        whole: Expression = true() if asked.exists else false()
        real = whole
        if asked.numbers:
            whole = one_of(self._whole(value, *one) for one in asked.numbers)
            real = one_of(self._real(value, text, *one) for one in asked.numbers)
        kinds: dict[str, Expression] = {"integer": whole, "real": real}
        kinds.update(outcomes.items())
        return case(kinds, value=func.json_type(DOCUMENT, where), else_=absent)

    def _whole(self, value: Expression, relation: str, operand: Number) -> Expression:
        if relation == "$eq":
            return value == literal(operand)
        found: Expression = COMPARE[relation](value, literal(operand))
        return found

    def _real(
        self, value: Expression, text: Expression, relation: str, operand: Number
    ) -> Expression:
        equal = text.in_(sql_asked.spellings(operand))
        return equal if relation == "$eq" else by_band(value, relation, operand, equal)


class PostgreSQLValues(Values):
    r"""PostgreSQL casts a document to ``json`` and extracts a value, once for most.

    A value that is compared twice would be extracted twice, and a subquery for it
    keeps a query from running in parallel. So what is asked most is put as one call
    whose outcome says all.

    It raises at ``\u0000``, half a surrogate pair, or what the database's encoding
    lacks, wherever they are in a document: those documents are Python's.
    """

    def text(self, path: Sequence[str]) -> Expression:
        """Return a value's JSON text; see the base class."""
        # Each part as a text: a cast to an array would be made anew for every row.
        where = array([cast(literal(part), Text) for part in path])
        value = cast(DOCUMENT, JSON).op("#>")(where)
        return cast(value, Text)

    def number(self, path: Sequence[str]) -> Expression:
        """Return about the number at a path; see the base class."""
        found = func.substring(_few(self.text(path)), "^[-0-9].*")
        return self.readable(cast(found, Double))

    def nulls_first(self, key: Expression) -> Expression:
        """Return a rising order; see the base class."""
        return key.asc().nulls_first()

    def is_list(self, path: Sequence[str]) -> Expression:
        """Return whether there is a list at a path; see the base class."""
        return func.left(self.text(path), 1) == "["

    def readable(self, expression: Expression) -> Expression:
        """Return an expression, guarded; see the base class."""
        fit = or_(
            DOCUMENT.not_like("%\\\\u%"),
            and_(
                func.getdatabaseencoding() == "UTF8",
                DOCUMENT.op("!~", is_comparison=True)("\\\\u(0000|d[89a-f])"),
            ),
        )
        return case((fit, expression), else_=null())

    def answer(
        self, path: Sequence[str], asked: Asked, absent: Expression
    ) -> Expression:
        """Return the answer, absence known; see the base class."""
        if asked.comparison is not None:
            return self._by_bucket(path, asked, absent, *asked.comparison)
        if not asked.numbers and asked.text_range is None:
            return self._by_text(path, asked, absent)
        return self._by_kind(path, asked, absent)

    def _by_bucket(
        self,
        path: Sequence[str],
        asked: Asked,
        absent: Expression,
        relation: str,
        operand: Number,
    ) -> Expression:
        low, high = sql_asked.band(operand)
        text = self.text(path)
        # What is no number sorts last, what is not there first.
        found = func.regexp_replace(_few(text), "^[^-0-9].*", "nan")
        number = cast(func.coalesce(found, "-inf"), Double)
        ends = (-sys.float_info.max, low, high, math.inf)
        bounds = array([literal(end, Double) for end in ends])
        equal = text.in_(sql_asked.spellings(operand))
        kinds = {"{": self.outcomes(path, asked, false())["object"], "[": null()}
        outcomes = {
            0: absent,
            1: zone(relation, -1),
            2: case((equal, zone(relation, 0)), else_=null()),
            3: zone(relation, 1),
        }
        return case(
            outcomes,
            value=func.width_bucket(number, bounds),
            else_=case(kinds, value=func.left(text, 1), else_=false()),
        )

    def _by_text(
        self, path: Sequence[str], asked: Asked, absent: Expression
    ) -> Expression:
        known = [sql_asked.json_text(text) for text in asked.texts]
        known += [json.dumps(value) for value in asked.booleans]
        known += ["null"] if asked.null else []
        whole = func.regexp_replace(self.text(path), r"^\[.*", "[")
        outcomes: dict[str, Expression] = {"": absent}
        if not asked.exists:
            outcomes |= {"[": null()} | dict.fromkeys(known, true())
        return case(
            outcomes,
            value=func.coalesce(whole, ""),
            else_=true() if asked.exists else false(),
        )

    def _by_kind(
        self, path: Sequence[str], asked: Asked, absent: Expression
    ) -> Expression:
        inner = self._once(path)
        text = inner.c.v
        content = func.substr(text, 2, func.length(text) - 2)
        plain = case((func.strpos(text, "\\") > 0, null()), else_=collate(content, "C"))
        outcomes = self.outcomes(path, asked, text_outcome(asked, text, plain))
        number: Expression = true() if asked.exists else false()
        if asked.numbers:
            number = case(
                (func.length(text) > _LONGEST, null()),
                else_=one_of(self._number(text, *one) for one in asked.numbers),
            )
        return _scalar(by_first(text, outcomes, number, absent), inner)

    def _once(self, path: Sequence[str]) -> LateralFromClause:
        # OFFSET keeps the planner from replacing "v" by its expression again.
        value = select(self.text(path).label("v"))
        return value.correlate(sql_tables.result).offset(0).lateral()

    def _number(self, text: Expression, relation: str, operand: Number) -> Expression:
        equal = text.in_(sql_asked.spellings(operand))
        if relation == "$eq":
            return equal
        return by_band(cast(text, Double), relation, operand, equal)


def _few(text: Expression) -> Expression:
    """Return a number's text, of which no number is too large for a float."""
    # Whole numbers only are longer: what is left of them is as far from any operand.
    return func.left(text, _MOST_DIGITS)


def _scalar(value: Expression, source: LateralFromClause) -> Expression:
    found = select(value).select_from(source).correlate(sql_tables.result)
    return found.scalar_subquery()


class MySQLValues(Values):
    """MySQL and MariaDB parse the document at each function call: few are made.

    ``INTERVAL`` compares a number with several bounds at once; what is no number counts
    as 0 there, so that everywhere but at 0 one call says all.

    Args:
        canonical: The server returns the text of numbers as it was written.
        guarded: Only what the server holds for JSON is read.
    """

    def __init__(self, *, canonical: bool, guarded: bool = False) -> None:
        self._canonical = canonical
        self._guarded = guarded

    def careful(self) -> Values | None:
        """Return a slower reader for damaged documents; see the base class."""
        # MariaDB does not raise.
        if self._canonical or self._guarded:
            return None
        return MySQLValues(canonical=False, guarded=True)

    def exact(self) -> bool:
        """Return whether numbers come as they are stored; see the base class."""
        return self._canonical

    def text(self, path: Sequence[str]) -> Expression:
        """Return a value's JSON text; see the base class."""
        value = func.json_extract(DOCUMENT, dotted(path))
        return collate(func.concat(value), "utf8mb4_bin")

    def number(self, path: Sequence[str]) -> Expression:
        """Return about the number at a path; see the base class."""
        text = self.text(path)
        digits = func.left(text, 1).in_(list("-0123456789"))
        number: Expression = text.op("+", return_type=Double())(_ZERO)
        return self.readable(case((digits, number), else_=null()))

    def is_list(self, path: Sequence[str]) -> Expression:
        """Return whether there is a list at a path; see the base class."""
        return func.left(self.text(path), 1) == "["

    def readable(self, expression: Expression) -> Expression:
        """Return an expression, guarded; see the base class."""
        if not self._guarded:
            return expression
        # MySQL raises at half a surrogate pair, and at numbers too large for a float.
        # Where a document is nested more than a hundred deep, it raises here, too.
        return case((func.json_valid(DOCUMENT) == 1, expression), else_=null())

    def absent(self, path: Sequence[str], outcome: Expression) -> Expression:
        """Return the outcome if nothing is at a path; see the base class."""
        found = super().absent(path, outcome)
        if not self._canonical:
            return found
        # MariaDB reads 32 levels deep; what is after a deeper one is not found.
        return case((func.json_valid(DOCUMENT) == 1, found), else_=null())

    def answer(
        self, path: Sequence[str], asked: Asked, absent: Expression
    ) -> Expression:
        """Return the answer, absence known; see the base class."""
        text = self.text(path)
        content = func.substr(text, 2, func.char_length(text) - 2)
        # Binary: other comparisons pad with blanks.
        raw = type_coerce(cast(content, BINARY), Text)
        plain = case((func.instr(text, "\\") > 0, null()), else_=raw)
        outcomes = self.outcomes(path, asked, self._texts(asked, text, plain))
        number: Expression = true() if asked.exists else false()
        if asked.numbers:
            number = one_of(self._number(text, *one) for one in asked.numbers)
        found = by_first(text, outcomes, number, absent)
        if asked.comparison is not None:
            found = self._by_interval(text, *asked.comparison, found)
        return found

    def _texts(self, asked: Asked, text: Expression, plain: Expression) -> Expression:
        if self._canonical or not asked.texts:
            return text_outcome(asked, text, plain)
        # MySQL writes the text anew, without escapes.
        return text.in_([f'"{value}"' for value in asked.texts])

    def _number(self, text: Expression, relation: str, operand: Number) -> Expression:
        equal = self._equal(text, operand)
        if relation == "$eq" and self._canonical:
            return equal
        return by_band(text.op("+")(_ZERO), relation, operand, equal)

    def _equal(self, text: Expression, operand: Number) -> Expression:
        known = sql_asked.spellings(operand)
        if not self._canonical:
            # Only whole numbers are certain to be what is written in the document.
            known = [word for word in known if word.lstrip("-").isdigit()]
        return text.in_(known) if known else false()

    def _by_interval(
        self, text: Expression, relation: str, operand: Number, otherwise: Expression
    ) -> Expression:
        low, high = sql_asked.band(operand)
        bounds = sorted({-sql_asked.TINY, sql_asked.TINY, low, high})
        zones: dict[int, Expression] = {}
        for place in range(len(bounds) + 1):
            start = bounds[place - 1] if place else -math.inf
            if start == -sql_asked.TINY:
                continue
            if low <= start < high:
                zones[place] = self._number(text, relation, operand)
            else:
                zones[place] = zone(relation, 1 if start >= high else -1)
        place_of = func.interval(text, *(literal(b, Double) + _ZERO for b in bounds))
        return case(zones, value=place_of, else_=otherwise)
