"""The one error tree of prefect-lume.

Every error that a call of this package raises on purpose descends from
:class:`LumeError`. Messages say what was wrong, where, what is allowed and what to
do; the same facts are attributes, so that a program need not parse the text. No
message, attribute or repr ever holds a secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_MOST_NAMES = 12
_MOST_TEXT = 300


def clip(text: object, limit: int = _MOST_TEXT) -> str:
    """Return ``str(text)``, cut to at most ``limit`` characters.

    Example:
        >>> clip("abcdef", 4)
        'abc…'
    """
    shown = str(text)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def name_list(names: Iterable[str], limit: int = _MOST_NAMES) -> str:
    """Return names quoted and sorted for a message, at most ``limit`` of them.

    Example:
        >>> name_list(["b", "a"])
        "'a', 'b'"
    """
    ordered = sorted(set(names))
    shown = ", ".join(repr(clip(name, 60)) for name in ordered[:limit])
    more = len(ordered) - limit
    return f"{shown} and {more} more" if more > 0 else shown or "none"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name nearest to ``name``, or "".

    Example:
        >>> suggestion("lattise", ["lattice", "beam"])
        " Did you mean 'lattice'?"
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


class LumeError(Exception):
    """The base of every error that prefect-lume raises on purpose."""


class ConfigurationError(LumeError):
    """A setting, Block or argument does not describe something that can be used."""


class MissingDependencyError(LumeError, ImportError):
    """An optional package is needed and is not installed.

    Attributes:
        package: The import name that was not found.
        extra: The extra of prefect-lume that installs it.
    """

    def __init__(self, package: str, extra: str, purpose: str = "") -> None:
        self.package = package
        self.extra = extra
        why = f" {purpose}" if purpose else " This"
        super().__init__(
            f"{why.strip()} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'prefect-lume[{extra}]'"
        )


class StorageError(LumeError):
    """A database or file storage could not do what was asked of it.

    Attributes:
        where: The storage, without any secret (for example
            ``mysql+pymysql://lume@db.example:3306/registry``).
    """

    def __init__(self, message: str, where: str = "") -> None:
        self.where = where
        super().__init__(message)


class ConnectionFailedError(StorageError):
    """The server could not be reached: unknown host, refused, timed out or lost."""


class AuthenticationError(StorageError):
    """The server refused the user name or the password."""


class PermissionDeniedError(StorageError):
    """The user is known to the server, but may not do this."""


class DatabaseMissingError(StorageError):
    """The server has no database of that name."""


class TLSError(StorageError):
    """The encrypted connection could not be set up."""


class SchemaError(StorageError):
    """The database's tables are missing, or of another revision than the code's."""


class IntegrityError(StorageError):
    """Stored content is not what its hash says: it is never returned."""


class NotFoundError(LumeError):
    """What was asked for does not exist.

    Attributes:
        kind: What it is: ``"model"``, ``"flow"``, ``"result"``...
        name: What was looked for.
        known: Names that do exist, as far as they are known.
    """

    def __init__(
        self, kind: str, name: object, known: Iterable[str] = (), hint: str = ""
    ) -> None:
        self.kind = kind
        self.name = name
        self.known = list(known)
        message = f"There is no {kind} {clip(repr(name), 120)}."
        if self.known:
            message += suggestion(str(name), self.known)
            message += f" Known: {name_list(self.known)}."
        if hint:
            message += f" {hint}"
        super().__init__(message)


class ConflictError(LumeError):
    """What is to be stored contradicts what is stored already."""


class AmbiguousError(LumeError):
    """One thing was asked for and several match."""


class InvalidInputError(LumeError, ValueError):
    """An argument or file holds something that is not allowed."""


class EncodingError(LumeError, TypeError):
    """A value cannot be stored.

    Attributes:
        path: Where it is in what was to be stored, for example ``inputs.beam[3]``.
    """

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(f"{path}: {message}")


class DecodingError(LumeError):
    """A stored value cannot be read back by this version.

    Attributes:
        path: Where it is in the document.
    """

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(f"{path}: {message}" if path else message)


class QueryError(LumeError, ValueError):
    """A query holds an operator or value outside the documented language."""


class PackageError(LumeError):
    """A model package or its source is not what it should be."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a flow-of-flows.

    Attributes:
        message: What is wrong, what is allowed and what to do.
        where: The item, for example ``composing_flows[1].mapped_parameters.text``.
        line: The line in the YAML file, 1-based, or ``None`` outside a file.
    """

    message: str
    where: str = ""
    line: int | None = None

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line is not None else ""
        where = f"{self.where}: " if self.where else ""
        return f"{place}{where}{self.message}"


class CompositionError(LumeError):
    """A flow-of-flows cannot be composed. All problems are reported at once.

    Attributes:
        problems: What is wrong, in the order of the file.
        source: The file or registry entry that was read.
    """

    def __init__(self, problems: Sequence[Problem], source: str = "") -> None:
        self.problems = tuple(problems)
        self.source = source
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        head = f"{source or 'The flow-of-flows'} has {count} {noun}:"
        super().__init__("\n  - ".join([head, *map(str, self.problems)]))


class SubflowError(LumeError):
    """One or more subflows of a flow-of-flows did not complete.

    Attributes:
        failures: Subflow name → what happened to it.
    """

    def __init__(self, parent: str, failures: dict[str, str]) -> None:
        self.parent = parent
        self.failures = dict(failures)
        lines = [f"{name}: {clip(cause)}" for name, cause in self.failures.items()]
        noun = "subflow" if len(lines) == 1 else "subflows"
        head = f"{len(lines)} {noun} of {parent!r} did not complete:"
        super().__init__("\n  - ".join([head, *lines]))


class FlowRunError(LumeError):
    """The run of a flow did not complete, so that it has no result.

    Attributes:
        flow_run_id: Prefect's id of the run.
    """

    def __init__(self, flow_run_id: str, message: str) -> None:
        self.flow_run_id = flow_run_id
        super().__init__(message)
