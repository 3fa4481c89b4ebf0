"""The query language: what is allowed, and how a query takes its stored form."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from prefect_lume.errors import QueryError, clip, name_list, suggestion
from prefect_lume.results.query.match import is_operators
from prefect_lume.results.query.operands import (
    SCALAR,
    SCALAR_MARK,
    SCALAR_VALUE,
    escape_path,
    stored_forms,
)
from prefect_lume.results.query.regex import canonical_regex

LOGICAL: Final = frozenset({"$and", "$or", "$nor"})
RANGES: Final = frozenset({"$gt", "$gte", "$lt", "$lte"})
FIELD: Final = RANGES | {
    "$eq",
    "$ne",
    "$in",
    "$nin",
    "$exists",
    "$not",
    "$regex",
    "$size",
    "$elemMatch",
}
#: Every operator of the language.
OPERATORS: Final = LOGICAL | FIELD

#: Deepest nesting of operators, most conditions, longest ``$in``, longest path.
MAX_DEPTH: Final = 20
MAX_CONDITIONS: Final = 1000
MAX_ALTERNATIVES: Final = 10_000
MAX_PATH: Final = 1000


def prepare(query: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check a user's query and return it in stored form, for a store's ``find``.

    Values take the form in which the codecs store them (a date compares by its
    instant), field names are escaped as they are in documents, and regular
    expressions are written as every engine reads them.

    Args:
        query: The query, in the documented subset of MongoDB's language; None and
            ``{}`` match everything. ``unique_hash`` names the document's key.

    Returns:
        A query of plain values. It is MongoDB's language, too.

    Raises:
        QueryError: An operator is not in the language, or an operand is of the wrong
            type or too large. The message names it.

    Example:
        >>> prepare({"inputs.name": {"$gt": "a"}, "unique_hash": "0f"})
        {'inputs.name': {'$gt': 'a'}, '_id': {'$eq': '0f'}}
    """
    return _Reader(stored=False).query({} if query is None else query, 0)


def validate(query: Mapping[str, Any] | None) -> dict[str, Any]:
    """Check a query in stored form and return it, without changing its meaning.

    Every store calls this on what it is given, so that no operator outside the
    language reaches a database server.

    Args:
        query: What :func:`prepare` returned, or a query of plain values.

    Returns:
        The query; its conditions may be grouped differently.

    Raises:
        QueryError: As in :func:`prepare`.

    Example:
        >>> validate({"$where": "sleep(1000)"})
        Traceback (most recent call last):
        ...
        prefect_lume.errors.QueryError: The operator '$where' is not in the query \
language. Allowed: '$and', '$elemMatch', '$eq', '$exists', '$gt', '$gte', '$in', \
'$lt', '$lte', '$ne', '$nin', '$nor', '$not', '$or', '$regex', '$size'.
    """
    return _Reader(stored=True).query({} if query is None else query, 0)


def refuse(name: str, allowed: Iterable[str] = OPERATORS) -> QueryError:
    """Return the error for an operator that is not allowed (here)."""
    known = sorted(allowed)
    return QueryError(
        f"The operator {clip(repr(name), 60)} is not in the query language."
        f"{suggestion(name, known) if len(name) < 20 else ''} "
        f"Allowed: {name_list(known, len(known))}."
    )


class _Reader:
    """Walks a query once: checks everything, translates unless ``stored``."""

    def __init__(self, *, stored: bool) -> None:
        self.stored = stored
        self.conditions = 0

    def query(self, query: object, depth: int) -> dict[str, Any]:
        if not isinstance(query, Mapping):
            raise QueryError(
                f"A query is a mapping of field names to conditions, not "
                f"{type(query).__name__}: {clip(repr(query), 80)}."
            )
        if depth > MAX_DEPTH:
            raise QueryError(f"A query is nested deeper than {MAX_DEPTH} levels.")
        clauses: list[dict[str, Any]] = []
        for name, operand in query.items():
            if isinstance(name, str) and name in LOGICAL:
                clauses.append({name: self._queries(name, operand, depth)})
            elif isinstance(name, str) and name.startswith("$"):
                raise refuse(name, LOGICAL if name in FIELD else OPERATORS)
            else:
                clauses += self._field(self._path(name), operand, depth)
        return combine(clauses)

    def _queries(self, name: str, operand: object, depth: int) -> list[dict[str, Any]]:
        if not isinstance(operand, list | tuple) or not operand:
            raise QueryError(f"{name} takes a list of one query or more.")
        return [self.query(query, depth + 1) for query in operand]

    def _path(self, name: object) -> str:
        path = check_path(name)
        return path if self.stored else escape_path(path)

    def _field(self, path: str, operand: Any, depth: int) -> list[dict[str, Any]]:
        if not is_operators(operand):
            return [self._condition(path, "$eq", operand, depth)]
        if depth > MAX_DEPTH:
            raise QueryError(f"A query is nested deeper than {MAX_DEPTH} levels.")
        clauses = []
        for name, value in operand.items():
            if name not in FIELD:
                raise refuse(str(name), FIELD)
            clauses.append(self._condition(path, name, value, depth))
        return clauses

    def _condition(
        self, path: str, name: str, operand: Any, depth: int
    ) -> dict[str, Any]:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise QueryError(f"A query has more than {MAX_CONDITIONS} conditions.")
        where = f"{path}: {name}"
        if name == "$not":
            if not is_operators(operand):
                raise QueryError(f"{where} takes operators, such as {{'$gt': 1}}.")
            return {"$nor": [combine(self._field(path, operand, depth + 1))]}
        if name == "$elemMatch":
            return {path: {name: self._element(where, operand, depth + 1)}}
        if name == "$exists":
            if not isinstance(operand, bool):
                raise QueryError(f"{where} takes True or False.")
            return {path: {name: operand}}
        if name == "$size":
            if type(operand) is not int or not 0 <= operand < 2**31:
                raise QueryError(f"{where} takes a whole number from 0.")
            return {path: {name: operand}}
        if name == "$regex":
            return {path: {name: canonical_regex(operand)}}
        return self._comparison(path, name, operand)

    def _element(self, where: str, operand: object, depth: int) -> dict[str, Any]:
        if not isinstance(operand, Mapping) or not operand:
            raise QueryError(f"{where} takes operators or a query, not empty.")
        if not is_operators(operand) or set(operand) & LOGICAL:
            return self.query(operand, depth)
        return self._element_values(where, operand, depth)

    def _element_values(
        self, where: str, operand: Mapping[str, Any], depth: int
    ) -> dict[str, Any]:
        """Return conditions on the element itself; dates become ones on its field."""
        # "@" stands for the element, "@.utc" for the instant of one that is a date.
        targets: dict[str, dict[str, Any]] = {}
        for name, value in operand.items():
            if name == "$not":
                if not is_operators(value):
                    raise QueryError(f"{where}: $not takes operators.")
                inner = self._element_values(where, value, depth + 1)
                clause = {"@": {name: inner}}
                if not is_operators(inner):
                    targets["@.?"] = {}
            else:
                if name not in FIELD:
                    raise refuse(str(name), FIELD)
                clause = self._condition("@", name, value, depth)
            for target, condition in clause.items():
                targets.setdefault(target, {}).update(condition)
        if set(targets) == {"@"}:
            return targets["@"]
        if len(targets) == 1 and (target := next(iter(targets))).startswith("@."):
            return {target[2:]: targets[target]}
        raise QueryError(
            f"{where}: conditions on dates cannot be mixed with others, or negated, "
            f"here. Join several $elemMatch with $and, $or or $nor."
        )

    def _comparison(self, path: str, name: str, operand: Any) -> dict[str, Any]:
        where = f"{path}: {name}"
        if name in {"$in", "$nin"}:
            if not isinstance(operand, list | tuple | set | frozenset):
                raise QueryError(f"{where} takes a list of values.")
            if len(operand) > MAX_ALTERNATIVES:
                raise QueryError(f"{where} takes at most {MAX_ALTERNATIVES} values.")
            return self._alternatives(path, name, list(operand))
        if self.stored:
            _check_value(where, operand, ranged=name in RANGES)
            return {path: {name: operand}}
        forms = stored_forms(path, operand, where, ranged=name in RANGES)
        for _, value in forms:
            if name in RANGES and isinstance(value, Mapping | list):
                raise _not_ordered(where, operand)
            _check_value(where, value, ranged=name in RANGES)
        if len(forms) == 1:
            return {forms[0][0]: {name: forms[0][1]}}
        positive = "$eq" if name == "$ne" else name
        clauses = [_guarded(path, p, {positive: value}) for p, value in forms]
        return {"$nor" if name == "$ne" else "$or": clauses}

    def _alternatives(self, path: str, name: str, values: list[Any]) -> dict[str, Any]:
        where = f"{path}: {name}"
        by_path: dict[str, list[Any]] = {}
        for value in values:
            forms = (
                [(path, value)]
                if self.stored
                else stored_forms(path, value, where, ranged=False)
            )
            for target, form in forms:
                _check_value(where, form, ranged=False)
                by_path.setdefault(target, []).append(form)
        if not by_path:
            return {path: {name: []}}
        if len(by_path) == 1:
            return {target: {name: found} for target, found in by_path.items()}
        clauses = [
            _guarded(path, target, {"$in": found}) for target, found in by_path.items()
        ]
        return {"$or" if name == "$in" else "$nor": clauses}


def _guarded(path: str, target: str, condition: dict[str, Any]) -> dict[str, Any]:
    """Return a condition; on the value of a numpy scalar, only if it is one."""
    if target != f"{path}.{SCALAR_VALUE}":
        return {target: condition}
    return {target: condition, f"{path}.{SCALAR_MARK}": {"$eq": SCALAR}}


def combine(clauses: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return clauses that must all hold as one query, in one mapping if they fit.

    Example:
        >>> combine([{"a": {"$gt": 1}}, {"a": {"$lt": 5}}, {"b": {"$eq": 2}}])
        {'a': {'$gt': 1, '$lt': 5}, 'b': {'$eq': 2}}
    """
    merged: dict[str, Any] = {}
    rest: list[dict[str, Any]] = []
    for clause in clauses:
        for name, operand in clause.items():
            there = merged.get(name)
            if there is None:
                merged[name] = dict(operand) if is_operators(operand) else operand
            elif is_operators(operand) and not set(there) & set(operand):
                there.update(operand)
            else:
                rest.append({name: operand})
    if not rest:
        return merged
    return {"$and": [merged, *rest]}


def check_path(name: object) -> str:
    """Return a dotted path that is fit for a query, sort or projection.

    Raises:
        QueryError: It is not text, is empty or too long, or has an empty part, one
            that starts with ``$``, or U+0000.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_PATH:
        raise QueryError(
            f"A field name is text of 1 to {MAX_PATH} characters, not "
            f"{clip(repr(name), 80)}."
        )
    for segment in name.split("."):
        if segment.startswith("$"):
            raise QueryError(
                f"The field {clip(repr(name), 80)} has a part that starts with '$'."
            )
        if not segment or "\0" in segment:
            raise QueryError(
                f"The field {clip(repr(name), 80)} has an empty part or one with "
                f"U+0000."
            )
    return name


def _check_value(where: str, value: Any, *, ranged: bool) -> None:
    if ranged and not isinstance(value, bool | int | float | str):
        raise _not_ordered(where, value)
    _check_plain(where, value, 0)


def _not_ordered(where: str, value: object) -> QueryError:
    return QueryError(
        f"{where} compares with a number, text, a datetime or True/False, not "
        f"{type(value).__name__}."
    )


def _check_plain(where: str, value: Any, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise QueryError(f"{where}: a value is nested deeper than {MAX_DEPTH} levels.")
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if not isinstance(name, str) or name.startswith("$") or "\0" in name:
                raise QueryError(f"{where}: the key {clip(repr(name), 60)}.")
            _check_plain(where, inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check_plain(where, inner, depth + 1)
    elif isinstance(value, float) and math.isnan(value):
        raise QueryError(f"{where}: NaN compares with nothing.")
    elif type(value) is int and not -(2**63) <= value < 2**63:
        raise QueryError(f"{where}: the whole number {value} needs more than 64 bits.")
    elif value is not None and type(value) not in {bool, int, float, str}:
        raise QueryError(
            f"{where}: a value of type {type(value).__name__} cannot be compared with "
            f"what is stored."
        )
