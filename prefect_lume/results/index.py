"""What a document type declares to be indexed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from prefect_lume.errors import InvalidInputError, QueryError, clip, name_list
from prefect_lume.results.query.language import check_path
from prefect_lume.results.query.match import is_operators
from prefect_lume.results.query.operands import escape_path, stored_forms

Plain = bool | int | float | str | None
#: A condition on one field: path, operator, value.
Clause = tuple[str, str, Plain]

#: The one field that :attr:`Index.expire_after` counts from.
EXPIRES_FROM: Final = "date_modified"
_ALLOWED: Final = ("$eq", "$exists", "$gt", "$gte", "$lt", "$lte")
_RULE: Final = (
    "It takes conditions that must all hold: field names, each with a text, number, "
    "truth value or datetime, or with the operators "
    f"{name_list(_ALLOWED)} ($exists with True only), and $and at its top."
)


class Where(Mapping[str, Any]):
    """The condition of a partial index: a query that cannot be changed any more.

    Args:
        query: In the documented query language, of which it takes a part.

    Attributes:
        clauses: The same in stored form, sorted.

    Raises:
        QueryError: It holds anything else than what every database can filter an
            index by. The message lists what is allowed.

    Example:
        >>> Where({"inputs.kind": "golden", "inputs.n": {"$gt": 1}}).clauses
        (('inputs.kind', '$eq', 'golden'), ('inputs.n', '$gt', 1))
    """

    __slots__ = ("_query", "clauses")

    def __init__(self, query: Mapping[str, Any]) -> None:
        given: object = query
        if not isinstance(given, Mapping) or not given:
            raise QueryError(
                f"An index's where is a query, not {clip(repr(query), 80)}. {_RULE}"
            )
        self._query = deepcopy(dict(query))
        found = {repr(clause): clause for clause in _clauses(query)}
        self.clauses: tuple[Clause, ...] = tuple(found[key] for key in sorted(found))

    def __getitem__(self, name: str) -> Any:
        return deepcopy(self._query[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._query)

    def __len__(self) -> int:
        return len(self._query)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Where):
            return repr(self.clauses) == repr(other.clauses)
        return super().__eq__(other)

    def __hash__(self) -> int:
        return hash(repr(self.clauses))

    def __repr__(self) -> str:
        return repr(self._query)


def _clauses(query: object) -> Iterator[Clause]:
    if not isinstance(query, Mapping):
        raise _refused(query)
    for name, operand in query.items():
        if name == "$and":
            if not isinstance(operand, list | tuple) or not operand:
                raise _refused(name)
            for inner in operand:
                yield from _clauses(inner)
            continue
        if str(name).startswith("$"):
            raise _refused(name)
        conditions = operand if is_operators(operand) else {"$eq": operand}
        for operator, value in conditions.items():
            yield _clause(escape_path(check_path(name)), str(operator), value)


def _clause(path: str, operator: str, value: Any) -> Clause:
    if operator not in _ALLOWED:
        raise _refused(operator)
    if operator == "$exists":
        if value is not True:
            raise _refused(f"{path}: $exists {value!r}")
        return (path, operator, True)
    ranged = operator != "$eq"
    # The first form is that of plain values; see Index about numpy scalars.
    target, stored = stored_forms(path, value, f"{path}: {operator}", ranged=ranged)[0]
    if not isinstance(stored, Plain) or (ranged and stored is None):
        raise _refused(f"{path}: {value!r}")
    return (target, operator, stored)


def _refused(what: object) -> QueryError:
    return QueryError(f"An index's where cannot hold {clip(repr(what), 80)}. {_RULE}")


@dataclass(frozen=True)
class Index:
    """An index that the store creates for a document type.

    Two documents have the same key when their values compare as equal in a query: 3
    and 3.0 do, True and 1 do not. In an SQL database a numpy scalar counts as the
    number it holds; MongoDB indexes what is stored, so there ``numpy.float64(3)``
    equals neither ``3`` nor ``numpy.float32(3)``: give a field with a unique index
    plain numbers (``value.item()``).

    Attributes:
        fields: Dotted paths into the stored document, for example
            ``("inputs.charge",)``; a leading ``-`` sorts downward.
        unique: Whether two documents of this type may have the same values.
        sparse: Leave out documents that lack one of the fields. Otherwise a field
            that is missing counts as None. None itself is a value: to leave it out,
            use ``where``.
        where: Index only documents that match this query, for example
            ``{"inputs.kind": "golden"}`` or ``{"serial": {"$gt": ""}}`` (any text).
            It takes equality, ``$exists: True``, ``$gt``, ``$gte``, ``$lt``, ``$lte``
            and ``$and`` at its top. A number matches plain numbers, not numpy scalars.
        expire_after: Remove documents of the type that long after their
            ``date_modified``, which is then the only field; with ``where`` only those
            that match. MongoDB does it by itself, within a minute or so; in an SQL
            database ``prefect-lume results prune`` does it.

    Raises:
        InvalidInputError: The fields or options do not go together.
        QueryError: A field is no path, or ``where`` holds something else.

    Example:
        >>> Index(("serial",), unique=True, where={"serial": {"$gt": ""}}).where
        {'serial': {'$gt': ''}}
        >>> Index(("date_modified",), expire_after=timedelta(days=30)).unique
        False
    """

    fields: tuple[str, ...]
    unique: bool = False
    sparse: bool = False
    where: Mapping[str, Any] | None = None
    expire_after: timedelta | None = None

    def __post_init__(self) -> None:
        given: object = self.fields
        if isinstance(given, str) or not self.fields or not all(self.fields):
            raise InvalidInputError(
                "An index needs a tuple of field names, for example "
                "Index(('flow_id',))."
            )
        object.__setattr__(self, "fields", tuple(self.fields))
        for field in self.fields:
            check_path(field.removeprefix("-"))
        if self.where is not None and not isinstance(self.where, Where):
            object.__setattr__(self, "where", Where(self.where))
        if self.expire_after is not None:
            self._check_expiry(self.expire_after)

    @property
    def clauses(self) -> tuple[Clause, ...]:
        """The conditions of ``where``, in stored form; none for a full index."""
        return self.where.clauses if isinstance(self.where, Where) else ()

    def _check_expiry(self, after: object) -> None:
        if not isinstance(after, timedelta) or after < timedelta(seconds=1):
            raise InvalidInputError(
                f"An index's expire_after is a timedelta of a second or more, not "
                f"{clip(repr(after), 80)}."
            )
        alone = tuple(field.removeprefix("-") for field in self.fields)
        if alone != (EXPIRES_FROM,) or self.unique or self.sparse:
            raise InvalidInputError(
                f"An index with expire_after has {EXPIRES_FROM!r} as its only field "
                f"and is neither unique nor sparse. Declare another index for "
                f"{name_list(self.fields)}."
            )
