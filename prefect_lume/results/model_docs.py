"""Document types by their names: registered, never imported from stored data."""

from __future__ import annotations

import enum
import inspect
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final, TypeVar, overload

from prefect_lume.errors import ConflictError, InvalidInputError, clip
from prefect_lume.results.result import DocumentBase, ImpactResult, Result

#: The entry point group in which an installed package offers document types.
GROUP: Final = "prefect_lume.results"

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_REGISTERED: Final[dict[str, type[DocumentBase]]] = {}
_LOCK: Final = threading.Lock()

D = TypeVar("D", bound=type[DocumentBase])


class _DocsType(type):
    """Makes a class of document types readable as a mapping of their names."""

    def __iter__(cls) -> Iterator[str]:
        return iter(cls.types())

    def __len__(cls) -> int:
        return len(cls.types())

    def __contains__(cls, name: object) -> bool:
        return name in cls.types()

    def __getitem__(cls, name: str) -> type[DocumentBase]:
        return cls.types()[name]

    def types(cls) -> dict[str, type[DocumentBase]]:
        """Return result type → document class, base classes' first."""
        found: dict[str, type[DocumentBase]] = {}
        for base in reversed(cls.__mro__):
            for value in vars(base).values():
                if _is_document(value):
                    found[value.result_type] = value
        return found


class ModelDocs(metaclass=_DocsType):
    """The document types that a results service knows.

    Subclass it to add types, or to replace one by another of the same
    ``result_type``; a plain ``Enum`` of classes, or a mapping, does as well.

    Example:
        >>> class Scan(Result):
        ...     steps: int = 0
        >>> class MyDocs(ModelDocs):
        ...     SCAN = Scan
        >>> sorted(MyDocs)
        ['Generic', 'Impact', 'Scan']
    """

    GENERIC = Result
    IMPACT = ImpactResult


@overload
def register_document(document: D) -> D: ...
@overload
def register_document(document: str | None = None) -> Callable[[D], D]: ...
def register_document(document: Any = None) -> Any:
    """Register a document type by its name, for every results service.

    Used as a class decorator, bare or with the name that stored documents carry.

    Args:
        document: The class, or its ``result_type``.

    Returns:
        The class, or a decorator of one.

    Raises:
        ConflictError: Another class has that name.
        InvalidInputError: It is no document class, or the name cannot be used.

    Example:
        >>> @register_document
        ... class EmittanceScan(Result):
        ...     steps: int = 0
        >>> EmittanceScan.result_type
        'EmittanceScan'
    """
    if document is None or isinstance(document, str):
        name = document

        def decorate(cls: D) -> D:
            if name is not None:
                _checked(cls).result_type = name
            return _register(cls)

        return decorate
    return _register(document)


def _register(cls: D) -> D:
    name = _checked(cls).result_type
    if not _NAME.fullmatch(name):
        raise InvalidInputError(
            f"{clip(repr(name), 80)} cannot name a document type: use up to 64 "
            "letters, digits, '_', '-' and '.', beginning with a letter."
        )
    with _LOCK:
        other = _REGISTERED.get(name) or _BUILT_IN.get(name)
        if other is not None and not _same(cls, other):
            raise ConflictError(
                f"The document type {name!r} is {_where(other)} already, so it cannot "
                f"be {_where(cls)} too. Give one of them another result_type."
            )
        _REGISTERED[name] = cls
    return cls


def resolve_model_docs(model_docs: object = None) -> dict[str, type[DocumentBase]]:
    """Return the document types that stored names stand for.

    ``Generic`` and ``Impact`` come first, then what installed packages offer as entry
    points of the group ``prefect_lume.results``, what was registered by
    :func:`register_document`, and last ``model_docs``, which wins.

    Args:
        model_docs: A subclass of :class:`ModelDocs`, an ``Enum`` whose members are
            document classes, a mapping of names to document classes, or ``None``.

    Returns:
        Result type → document class.

    Raises:
        InvalidInputError: Something else was given.
    """
    found = {**_BUILT_IN, **_offered()}
    with _LOCK:
        found.update(_REGISTERED)
    found.update(_given(model_docs))
    return found


def _given(model_docs: object) -> dict[str, type[DocumentBase]]:
    if model_docs is None:
        return {}
    if isinstance(model_docs, _DocsType):
        return model_docs.types()
    if isinstance(model_docs, type) and issubclass(model_docs, enum.Enum):
        classes = [_checked(member.value) for member in model_docs]
        return {cls.result_type: cls for cls in classes}
    if isinstance(model_docs, Mapping):
        checked = {str(name): _checked(cls) for name, cls in model_docs.items()}
        return {**{cls.result_type: cls for cls in checked.values()}, **checked}
    raise InvalidInputError(
        "model_docs is a subclass of ModelDocs, an Enum of document classes or a "
        f"mapping of names to them, not {clip(repr(model_docs), 80)}."
    )


@cache
def _offered() -> dict[str, type[DocumentBase]]:
    found: dict[str, type[DocumentBase]] = {}
    for point in entry_points(group=GROUP):
        try:
            cls = _checked(point.load())
        except (ImportError, AttributeError, InvalidInputError) as exc:
            warnings.warn(
                f"The document type {point.value!r}, which an installed package "
                f"offers, cannot be used: {clip(exc)}",
                stacklevel=2,
            )
            continue
        found[cls.result_type] = cls
    return found


def _is_document(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, DocumentBase)


def _checked(value: Any) -> type[DocumentBase]:
    if not _is_document(value):
        raise InvalidInputError(
            f"{clip(repr(value), 80)} is no document class. Document types are "
            "subclasses of prefect_lume.results.Result."
        )
    cls: type[DocumentBase] = value
    return cls


def _same(cls: type, other: type) -> bool:
    """Tell whether a class is another one, imported again (a flow file often is)."""
    if cls is other:
        return True
    if cls.__qualname__ != other.__qualname__:
        return False
    return cls.__module__ == other.__module__ or _file(cls) == _file(other) != ""


def _file(cls: type) -> str:
    try:
        return inspect.getfile(cls)
    except (TypeError, OSError):
        return ""


def _where(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


_BUILT_IN: Final[dict[str, type[DocumentBase]]] = {
    Result.result_type: Result,
    ImpactResult.result_type: ImpactResult,
}
