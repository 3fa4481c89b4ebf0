"""A storage named in settings: from a dotted path to the object."""

from __future__ import annotations

import importlib
import inspect
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from prefect_lume.errors import (
    ConfigurationError,
    LumeError,
    MissingDependencyError,
    clip,
    name_list,
    suggestion,
)
from prefect_lume.pipelines.base import PipelineStorage

#: Short names of the storages that come with this package.
ALIASES: Final = {
    "orm": "prefect_lume.pipelines.orm.OrmPipelineResultsStorage",
    "mongodb": "prefect_lume.pipelines.mongo.MongoPipelineResultsStorage",
    "memory": "prefect_lume.pipelines.memory.MemoryPipelineResultsStorage",
}

_FORMS: Final = (
    "Give the Python path of a storage class, such as 'my_package.MyStorage', one of "
    f"{name_list(ALIASES)}, or a pair of either and its keyword arguments, "
    '["my_package.MyStorage", {"name": "value"}].'
)


@dataclass(frozen=True)
class StorageChoice:
    """Which storage to make, and who says so.

    Attributes:
        path: The Python path of its class, or a short name.
        kwargs: Keyword arguments for it. They may hold a password, so they are not
            shown.
        source: Where this was said, for messages.
    """

    path: str
    kwargs: dict[str, Any] = field(default_factory=dict, repr=False)
    source: str = "the argument"

    @classmethod
    def of(cls, value: Any, source: str = "the argument") -> StorageChoice:
        """Return the choice that a setting's value means.

        Args:
            value: A path, or a pair of a path and a dictionary of keyword arguments.
            source: Where the value comes from.

        Raises:
            ConfigurationError: The value is neither of these.

        Example:
            >>> StorageChoice.of(["memory", {}]).path
            'memory'
        """
        if isinstance(value, str) and value.strip():
            return cls(value.strip(), {}, source)
        if isinstance(value, list | tuple):
            match list(value):
                case [str(path), Mapping() as kwargs] if path.strip() and all(
                    isinstance(name, str) for name in kwargs
                ):
                    return cls(path.strip(), dict(kwargs), source)
        raise ConfigurationError(
            f"The storage of pipelines named by {source} is {_shape(value)}. {_FORMS}"
        )


#: What is used where nothing is set.
DEFAULT: Final = StorageChoice("orm", {}, "the default")


def make_storage(choice: StorageChoice, context: Any = None) -> PipelineStorage:
    """Make the storage that was chosen.

    A class with a class method ``for_context`` is made by
    ``for_context(context, **kwargs)``, any other one by ``cls(**kwargs)``.

    Args:
        choice: Which one.
        context: What knows the engines that are configured.

    Raises:
        ConfigurationError: There is no such class, or it cannot be made so; the message
            says what was tried.
        MissingDependencyError: A package that it needs is not installed.
        StorageError: Its database cannot be used.
    """
    cls = find_class(choice)
    for_context = getattr(cls, "for_context", None)
    make: Callable[..., Any] = cls if for_context is None else for_context
    given = () if for_context is None else (context,)
    _check_arguments(choice, cls, make, given)
    try:
        storage = make(*given, **choice.kwargs)
    except (LumeError, MemoryError):
        raise
    except Exception as error:
        if not choice.kwargs:
            message = f"{_head(choice)} could not be made: {_of(error)}."
            raise ConfigurationError(message) from error
        # Its text, and the chain's, may quote an argument, password and all.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        allowed = _allowed(cls, make, len(given))
        message = (
            f"{_head(choice)} could not be made with the arguments "
            f"{name_list(choice.kwargs)}: it raised {type(error).__name__} in "
            f"{frame.filename}, line {frame.lineno}. {allowed}"
        )
        raise ConfigurationError(message) from None
    if not isinstance(storage, PipelineStorage):
        raise ConfigurationError(
            f"{_head(choice)} made a {type(storage).__name__}, not a PipelineStorage."
        )
    return storage


def find_class(choice: StorageChoice) -> type[PipelineStorage]:
    """Return the class that a choice names.

    Raises:
        ConfigurationError: There is none; the message says what was tried.
    """
    path = ALIASES.get(choice.path, choice.path)
    module_name, _, name = path.replace(":", ".").rpartition(".")
    parts = [*module_name.split("."), name]
    if not module_name or not all(part.isidentifier() for part in parts):
        raise ConfigurationError(
            f"{_head(choice)} is not a Python path."
            f"{suggestion(choice.path, ALIASES)} {_FORMS}"
        )
    module = _import(choice, module_name)
    found = getattr(module, name, None)
    if found is None:
        raise ConfigurationError(
            f"{_head(choice)} was not found: the module {module_name!r} was imported "
            f"from {getattr(module, '__file__', None) or 'a namespace package'}, but "
            f"has no {name!r}.{_near(module, name)}"
        )
    if not (isinstance(found, type) and issubclass(found, PipelineStorage)):
        what = "class" if isinstance(found, type) else type(found).__name__
        raise ConfigurationError(
            f"{_head(choice)} is a {what} that does not extend "
            f"prefect_lume.pipelines.base.PipelineStorage, as a storage has to."
        )
    lacking: frozenset[str] = getattr(found, "__abstractmethods__", frozenset())
    if lacking:
        raise ConfigurationError(
            f"{_head(choice)} is abstract: it does not define {name_list(lacking)}."
        )
    return found


def _import(choice: StorageChoice, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except MissingDependencyError:
        raise
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(f"{missing}."):
            raise ConfigurationError(
                f"{_head(choice)} could not be imported: the module {name!r} was "
                f"found, but needs {missing!r}, which was not. Install it."
            ) from error
        above = missing.rpartition(".")[0]
        where = f"in the package {above!r}" if above else "on the Python path"
        raise ConfigurationError(
            f"{_head(choice)} was not found: tried to import the module {name!r}, but "
            f"there is no {missing.rpartition('.')[2]!r} {where}. Correct the path, or "
            f"install the package that holds it in the environment of this process."
        ) from error
    except Exception as error:
        raise ConfigurationError(
            f"{_head(choice)} could not be imported: the module {name!r} was found, "
            f"but importing it raised {_of(error)}."
        ) from error


def _near(module: ModuleType, name: str) -> str:
    public = [known for known in dir(module) if not known.startswith("_")]
    storages = [
        known
        for known in public
        if isinstance(cls := getattr(module, known, None), type)
        and issubclass(cls, PipelineStorage)
        and cls is not PipelineStorage
    ]
    known = f" Storages in it: {name_list(storages)}." if storages else ""
    return f"{suggestion(name, public)}{known}"


def _check_arguments(
    choice: StorageChoice,
    cls: type[PipelineStorage],
    make: Callable[..., Any],
    given: tuple[Any, ...],
) -> None:
    signature = inspect.signature(make)
    try:
        signature.bind(*given, **choice.kwargs)
    except TypeError as error:
        raise ConfigurationError(
            f"{_head(choice)} was found, but cannot be made so: {error}. "
            f"{_allowed(cls, make, len(given))} Given: {name_list(choice.kwargs)}."
        ) from None


def _allowed(cls: type[PipelineStorage], make: Callable[..., Any], skipped: int) -> str:
    """Say which keyword arguments a storage takes."""
    parameters = list(inspect.signature(make).parameters.values())[skipped:]
    if make is not cls and any(p.kind is p.VAR_KEYWORD for p in parameters):
        # It hands on to the class what it does not know.
        parameters += inspect.signature(cls).parameters.values()
    named = {p.name for p in parameters if p.kind in (_EITHER, _BY_NAME)}
    if not named:
        return f"{cls.__name__} takes no keyword arguments."
    return f"{cls.__name__} takes the keyword arguments {name_list(named)}."


_EITHER: Final = inspect.Parameter.POSITIONAL_OR_KEYWORD
_BY_NAME: Final = inspect.Parameter.KEYWORD_ONLY


def _head(choice: StorageChoice) -> str:
    # What is no path at all may be an address with a password, put in its place.
    is_path = re.fullmatch(r"[\w.:-]{1,200}", choice.path) is not None
    shown = f" {choice.path!r}" if is_path else ""
    return f"The storage of pipelines{shown} ({choice.source})"


def _of(error: BaseException) -> str:
    return f"{type(error).__name__}: {clip(error)}"


def _shape(value: Any) -> str:
    # Its content may hold a password.
    if isinstance(value, list | tuple):
        kinds = ", ".join(type(item).__name__ for item in value[:4])
        return f"a list of {len(value)} ({kinds})" if value else "an empty list"
    return "an empty text" if value == "" else f"a {type(value).__name__}"
