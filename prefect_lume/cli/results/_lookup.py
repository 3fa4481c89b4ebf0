"""Find the result that a person names by the beginning of its hash."""

from __future__ import annotations

import re
from typing import Any

from prefect_lume.errors import AmbiguousError, InvalidInputError, NotFoundError, clip
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
    """
    prefix = text.strip().lower()
    if not _PREFIX.fullmatch(prefix):
        raise InvalidInputError(
            f"{clip(repr(text), 80)} is no unique hash: give its 64 hexadecimal "
            f"digits, or the first four or more. `prefect-lume results find` lists "
            f"them."
        )
    # "g" comes after every hexadecimal digit: an index answers this.
    query: dict[str, Any] = {"unique_hash": {"$gte": prefix, "$lt": f"{prefix}g"}}
    found = list(service.find(project, query, sort="unique_hash", limit=2, lazy=True))
    if not found:
        raise NotFoundError(f"result in the project {project!r} with the hash", text)
    if len(found) > 1:
        raise AmbiguousError(
            f"Several results of the project {project!r} have hashes that begin with "
            f"{prefix}, for example {found[0].unique_hash} and {found[1].unique_hash}: "
            f"give more digits."
        )
    result: Result = found[0]
    return result
