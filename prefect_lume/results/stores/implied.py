"""What a query says at its top level: which values it fixes, which index it fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefect_lume.results.query.compare import MISSING
from prefect_lume.results.query.match import is_operators, value_test
from prefect_lume.results.query.operands import SCALAR, SCALAR_MARK, SCALAR_VALUE
from prefect_lume.results.stores.indices import DeclaredIndex


def equalities(query: Mapping[str, Any], *, scalars: bool = True) -> dict[str, Any]:
    """Return the fields that a query fixes to one value, at its top level.

    Args:
        query: In stored form.
        scalars: Whether a field counts that may hold the value as a numpy scalar.
    """
    fixed: dict[str, Any] = {}
    for name, operand in query.items():
        if name == "$and":
            for inner in operand:
                fixed.update(equalities(inner, scalars=scalars))
        elif name == "$or":
            fixed.update(_as_scalar(operand) if scalars else {})
        elif not name.startswith("$"):
            value = operand.get("$eq", MISSING) if is_operators(operand) else operand
            if value is not MISSING:
                fixed[name] = value
    return fixed


def _as_scalar(alternatives: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the field of "equal, as a plain number or as a numpy scalar"."""
    first = equalities(alternatives[0])
    if len(alternatives) == 2 and len(first) == 1:
        field, value = next(iter(first.items()))
        if alternatives[1] == {
            f"{field}.{SCALAR_VALUE}": {"$eq": value},
            f"{field}.{SCALAR_MARK}": {"$eq": SCALAR},
        }:
            return first
    return {}


def implied(index: DeclaredIndex, query: Mapping[str, Any]) -> bool:
    """Tell whether every document of a type that matches a query is in an index.

    Args:
        index: The index.
        query: In stored form.

    Returns:
        False also where it would take more to find out than a look at each condition.
    """
    said = set(_conditions(query))
    fixed, plain = equalities(query), equalities(query, scalars=False)
    for path, name, value in index.clauses:
        if repr((path, name, value)) in said:
            continue
        # That a field exists, a numpy scalar shows as well.
        found = (fixed if name == "$exists" else plain).get(path)
        if found is None or isinstance(found, list | Mapping):
            return False
        if not value_test(name, value)(found):
            return False
    return True


def _conditions(query: Mapping[str, Any]) -> Iterator[str]:
    for name, operand in query.items():
        if name == "$and":
            for inner in operand:
                yield from _conditions(inner)
        elif not name.startswith("$"):
            operators = operand if is_operators(operand) else {"$eq": operand}
            yield from (repr((name, key, value)) for key, value in operators.items())
