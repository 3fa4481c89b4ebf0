"""Follow a reference into a result: a field, then keys and positions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prefect_lume.errors import NotFoundError, clip, name_list, suggestion
from prefect_lume.results.codecs import Lazy
from prefect_lume.results.documents import DocumentBase, Result
from prefect_lume.results.references import ResultReference


def narrow(document: DocumentBase, reference: ResultReference) -> Any:
    """Return the value in a document that a reference is narrowed to.

    Args:
        document: The document that the reference names; large values may be lazy.
        reference: Where to look. Without ``attribute``, the first step of
            ``attribute_index`` names the field.

    Returns:
        The value, loaded: what lies beside it is not.

    Raises:
        NotFoundError: There is no such value. The message says at which step, and what
            is there instead.
    """
    steps: list[str | int] = list(reference.attribute_index or [])
    if reference.attribute is not None:
        steps.insert(0, reference.attribute)
    fields = _fields(document)
    shown = f"result {reference.unique_hash[:12]}…"
    first = steps[0]
    if not isinstance(first, str) or first not in fields:
        raise _nothing(shown, "field", first, fields)
    value, place = _loaded(fields[first]), first
    for step in steps[1:]:
        value = _loaded(_step(value, step, f"{shown} at {place}"))
        place += f"[{step!r}]"
    return _complete(value)


def _fields(document: DocumentBase) -> dict[str, Any]:
    if isinstance(document, Result):
        return {**document.field_values(), "unique_hash": document.unique_hash}
    return dict(document)


def _loaded(value: Any) -> Any:
    return value.load() if isinstance(value, Lazy) else value


def _complete(value: Any) -> Any:
    """Return a value with everything lazy inside it loaded."""
    if isinstance(value, Lazy):
        return _complete(value.load())
    if type(value) is dict:
        return {name: _complete(item) for name, item in value.items()}
    if type(value) in {list, tuple, set, frozenset}:
        return type(value)(_complete(item) for item in value)
    return value


def _step(value: Any, step: str | int, place: str) -> Any:
    if isinstance(value, Mapping):
        if step in value:
            return value[step]
        raise _nothing(place, "key", step, value)
    names = getattr(value, "columns", None)
    if names is None and getattr(value, "dtype", None) is not None:
        names = getattr(value.dtype, "names", None)
    if names is not None and isinstance(step, str):
        if step in list(names):
            return value[step]
        raise _nothing(place, "column", step, names)
    if isinstance(step, int) and _is_sequence(value):
        return _element(value, step, place)
    kind = type(value).__name__
    raise NotFoundError(
        f"value in the {place} under", step, hint=f"What is there is of type {kind}."
    )


def _is_sequence(value: Any) -> bool:
    return not isinstance(value, str | bytes) and hasattr(value, "__getitem__")


def _element(value: Any, step: int, place: str) -> Any:
    try:
        return value.iloc[step] if hasattr(value, "iloc") else value[step]
    except (IndexError, KeyError, TypeError) as error:
        length = len(value) if hasattr(value, "__len__") else 0
        raise NotFoundError(
            f"element in the {place} at the position",
            step,
            hint=f"It has {length}; positions start at 0.",
        ) from error


def _nothing(
    place: str, kind: str, step: object, names: Iterable[Any]
) -> NotFoundError:
    known = [str(name) for name in names]
    hint = f"{suggestion(str(step), known)} There: {name_list(known)}."
    error = NotFoundError(f"{kind} in the {place} named", clip(step), hint=hint.strip())
    error.known = known
    return error
