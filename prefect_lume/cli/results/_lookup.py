"""Find the result that a person names by the beginning of its hash."""

from __future__ import annotations

import re
from typing import Any

from prefect_lume.errors import (
    AmbiguousError,
    InvalidInputError,
    NotFoundError,
    clip,
    name_list,
)
from prefect_lume.results import Result, ResultsService

_PREFIX = re.compile(r"[0-9a-f]{4,64}")


def find_by_hash(service: ResultsService, project: str, text: str) -> Result:
    """Return a project's result by its unique hash, or the beginning of it.

    Large values are not loaded.

    Args:
        service: The results database.
        project: The project.
        text: At least the first four digits of the hash.

    Raises:
        InvalidInputError: The text is no beginning of a hash.
        NotFoundError: There is no such result.
        AmbiguousError: Several begin so.
        IntegrityError: The result is not what was stored once.
    """
    whole = whole_hash(service, project, text)
    result: Result = service.find_one(project, {"unique_hash": whole}, lazy=True)
    return result


def whole_hash(service: ResultsService, project: str, text: str) -> str:
    """Return the unique hash of a project's result by the beginning of it.

    Nothing else of the result is read: a damaged one is found, too.

    Args:
        service: The results database.
        project: The project.
        text: At least the first four digits of the hash.

    Raises:
        InvalidInputError: The text is no beginning of a hash.
        NotFoundError: There is no such result.
        AmbiguousError: Several begin so.
    """
    prefix = text.strip().lower()
    if not _PREFIX.fullmatch(prefix):
        raise InvalidInputError(
            f"{clip(repr(text), 80)} is no unique hash: give its 64 hexadecimal "
            f"digits, or the first four or more. `prefect-lume results find` lists "
            f"them."
        )
    found = _beginning(service, project, prefix)
    if not found:
        raise NotFoundError(
            f"result in the project {project!r} with the hash",
            text,
            hint=_elsewhere(service, prefix),
        )
    if len(found) > 1:
        raise AmbiguousError(
            f"Several results of the project {project!r} have hashes that begin with "
            f"{prefix}, for example {found[0]} and {found[1]}: give more digits."
        )
    return found[0]


def _beginning(service: ResultsService, project: str, prefix: str) -> list[str]:
    """Return the first two hashes that begin so."""
    # "g" comes after every hexadecimal digit: an index answers this.
    query: dict[str, Any] = {"unique_hash": {"$gte": prefix, "$lt": f"{prefix}g"}}
    found = service.find(project, query, sort="unique_hash", limit=2, projection=[])
    return [result.unique_hash for result in found]


def _elsewhere(service: ResultsService, prefix: str) -> str:
    projects = [p for p in service.projects() if _beginning(service, p, prefix)]
    return f"There is one in: {name_list(projects)}." if projects else ""
