"""References as they arrive in a task: objects, or their JSON form."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from prefect_lume.errors import InvalidInputError, clip
from prefect_lume.results import FileReference, ResultReference

_Reference = TypeVar("_Reference", bound=BaseModel)


def _read(kind: type[_Reference], value: Any, maker: str) -> _Reference:
    if isinstance(value, kind):
        return value
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'it'}: {item['msg']}"
            for item in details
        )
        raise InvalidInputError(
            f"A {kind.__name__} was expected (what {maker} returns, or its JSON form), "
            f"not {clip(repr(value), 120)}: {problems}."
        ) from error


def as_result_reference(value: Any) -> ResultReference:
    """Return a result reference from one, or from its JSON form.

    Raises:
        InvalidInputError: It is neither.
    """
    return _read(ResultReference, value, "store_result")


def as_file_reference(value: Any) -> FileReference:
    """Return a file reference from one, or from its JSON form.

    Raises:
        InvalidInputError: It is neither.
    """
    return _read(FileReference, value, "save_file")
