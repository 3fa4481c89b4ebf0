"""The kinds of text and values that a specification is made of."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, JsonValue
from pydantic_core import PydanticCustomError

from prefect_lume.composition._translate import OURS, kind_of
from prefect_lume.composition.lines import Path, place

#: Characters that Prefect refuses in the name of a flow.
_BANNED: Final = "/%&<>"
_MOST_NAME: Final = 200
_MOST_DEPTH: Final = 100


def slug(name: str) -> str:
    """Return a name as the beginning of a Python identifier.

    The parent's parameters are called ``<slug>__<parameter>``. An identifier stays
    as it is, but for leading underscores, which Prefect does not take.

    Example:
        >>> slug("transport"), slug("2nd scan-x"), slug("_hidden")
        ('transport', 'flow_2nd_scan_x', 'hidden')
    """
    plain = unicodedata.normalize("NFKC", name)
    kept = "".join(c if ("a" + c).isidentifier() else "_" for c in plain).lstrip("_")
    return kept if kept.isidentifier() else f"flow_{kept}".rstrip("_")


def _wrong(message: str) -> PydanticCustomError:
    # The message is a template for pydantic; ours is finished.
    return PydanticCustomError(OURS, "{text}", {"text": message})


def _name(value: str) -> str:
    if not value.strip():
        raise _wrong("A name must not be empty.")
    if len(value) > _MOST_NAME:
        raise _wrong(f"A name must have at most {_MOST_NAME} characters.")
    if not value.isprintable():
        raise _wrong("A name must not hold line breaks or control characters.")
    return value


def _flow_name(value: str) -> str:
    banned = sorted(set(value) & set(_BANNED))
    if banned:
        raise _wrong(
            f"The name of a flow must not hold {' or '.join(banned)}: Prefect "
            f"refuses {' '.join(_BANNED)} in it."
        )
    return _name(value)


def _deployment_name(value: str) -> str:
    if not re.fullmatch(r"[^/]+/[^/]+", value):
        raise _wrong(
            f"{value!r} is not the name of a Prefect deployment: write "
            "'<flow name>/<deployment name>'."
        )
    return value


def _step(value: object) -> object:
    if type(value) not in {str, int}:
        raise _wrong(
            f"A step of attribute_index must be a key or a list index, not "
            f"{kind_of(value)}."
        )
    return value


def _json(value: object) -> object:
    for path, leaf in _leaves(value):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise _wrong(f"{leaf} has no JSON form{_inside_of(path)}.")
        if not isinstance(leaf, str | int | float | None):
            raise _wrong(f"{kind_of(leaf)} has no JSON form{_inside_of(path)}.")
    return value


def _inside_of(path: Path) -> str:
    return f" (at {place(path)})" if path else ""


def _leaves(value: object, path: Path = ()) -> Iterator[tuple[Path, object]]:
    if len(path) > _MOST_DEPTH:
        raise _wrong(f"The value is nested deeper than {_MOST_DEPTH} levels.")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise _wrong(f"The key {key!r} is not text{_inside_of(path)}.")
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


Name = Annotated[str, AfterValidator(_name)]
FlowName = Annotated[str, AfterValidator(_flow_name)]
Step = Annotated[str | int, BeforeValidator(_step)]
DeploymentName = Annotated[str, AfterValidator(_deployment_name)]
Constant = Annotated[JsonValue, BeforeValidator(_json)]
