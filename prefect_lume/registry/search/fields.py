"""What can be asked of deployments and of models, by the names that filters use."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Literal

from sqlalchemy import Boolean, Column, Integer, Table
from sqlalchemy.orm import DeclarativeBase

from prefect_lume.errors import suggestion
from prefect_lume.registry.search.problems import problem
from prefect_lume.registry.search.syntax import Path
from prefect_lume.registry.tables import (
    AliasRow,
    DeploymentRow,
    DeploymentTagRow,
    FlowRow,
    ModelRow,
    ModelTagRow,
)
from prefect_lume.storage.columns import SHA256, UTCDateTime

Target = Literal["deployment", "model"]
"""What is searched for."""


def _table(row: type[DeclarativeBase]) -> Table:
    table = row.__table__
    if not isinstance(table, Table):  # pragma: no cover - every row has a table
        raise TypeError(row)
    return table


DEPLOYMENT: Final = _table(DeploymentRow)
MODEL: Final = _table(ModelRow)
ALIAS: Final = _table(AliasRow)
FLOW: Final = _table(FlowRow)
_TAGS: Final = {
    "deployment": _table(DeploymentTagRow),
    "model": _table(ModelTagRow),
}
_HIDDEN: Final = {
    "entrypoints", "fingerprint", "live_model_id", "lock", "revision", "search_text",
}  # fmt: skip
#: Fields of a model that a search for deployments knows without ``model.``, too.
_PLAIN_OF_MODEL: Final = ("author", "laboratory", "facility", "beampath")
_TAG_WORDS: Final = ("tags", "tag")


class Kind(Enum):
    """What a field holds."""

    TEXT = "text"
    SHA = "a SHA-256"
    NUMBER = "a whole number"
    DATE = "a date"
    FLAG = "true or false"
    LIVE = "true or false, by an index"
    WORDS = "words"


@dataclass(frozen=True, eq=False)
class Field:
    """A field, and where its values are.

    Attributes:
        name: Its name in messages.
        kind: What it holds.
        column: Where. Of the searched table or the joined model, unless ``link``.
        link: A column of the same table that names the row a value belongs to; there
            may be any number of values then.
        owner: What ``link`` refers to: the searched row, or a deployment's model.
        key: The tag's key.
        probed: Each row asks for its values, instead of the values for their rows.
    """

    name: str
    kind: Kind
    column: Column[Any]
    link: Column[Any] | None = None
    owner: Target = "deployment"
    key: str | None = None
    probed: bool = False

    @property
    def joined(self) -> bool:
        """Whether it is a column of the model, for a search for deployments."""
        return self.link is None and self.column.table is MODEL


def kind_of(column: Column[Any]) -> Kind:
    """Return what a column holds."""
    if isinstance(column.type, Boolean):
        return Kind.FLAG
    if isinstance(column.type, Integer):
        return Kind.NUMBER
    if isinstance(column.type, UTCDateTime):
        return Kind.DATE
    return Kind.SHA if column.type is SHA256 else Kind.TEXT


def columns(table: Table) -> dict[str, Column[Any]]:
    """Return the columns of a table that may be named."""
    return {c.key: c for c in table.columns if c.key not in _HIDDEN}


@lru_cache(maxsize=2)
def plain(target: Target) -> dict[str, Field]:
    """Return the fields of a target that have no further part."""
    if target == "deployment":
        return (
            _own(DEPLOYMENT)
            | {
                name: field
                for name, field in _own(MODEL, "model.").items()
                if name in _PLAIN_OF_MODEL
            }
            | {
                "is_live": Field("is_live", Kind.LIVE, DEPLOYMENT.c.is_live),
                "alias": _many("alias", ALIAS.c.alias, target),
                "flow": _many("flow", FLOW.c.flow_name, target),
                "project": _many("project", FLOW.c.project_name, target),
                "text": Field("text", Kind.WORDS, DEPLOYMENT.c.search_text),
            }
        )
    return _own(MODEL) | {
        "alias": _many("alias", ALIAS.c.alias, target),
        "version": _of_deployments()["version"],
        "is_live": Field("is_live", Kind.LIVE, DEPLOYMENT.c.live_model_id),
        "text": Field("text", Kind.WORDS, MODEL.c.search_text),
    }


def _many(name: str, column: Column[Any], owner: Target) -> Field:
    link = column.table.c[f"{owner}_id"]
    return Field(name, Kind.TEXT, column, link=link, owner=owner)


def _own(table: Table, prefix: str = "") -> dict[str, Field]:
    return {
        name: Field(prefix + name, kind_of(column), column)
        for name, column in columns(table).items()
    }


@lru_cache(maxsize=1)
def _of_deployments() -> dict[str, Field]:
    """Return what some deployment of a model may have."""
    return {
        name: Field(
            f"deployment.{name}",
            kind_of(column),
            column,
            link=DEPLOYMENT.c.model_id,
            owner="model",
            # The index of both has the model first.
            probed=name == "version",
        )
        for name, column in columns(DEPLOYMENT).items()
    }


def _nested(target: Target) -> dict[str, dict[str, Field]]:
    if target == "deployment":
        own = {n: f for n, f in plain(target).items() if f.column.table is DEPLOYMENT}
        own.pop("text")
        return {"model": _own(MODEL, "model."), "deployment": own}
    return {"model": _own(MODEL, "model."), "deployment": _of_deployments()}


def names(target: Target) -> list[str]:
    """Return what fields are called, for messages."""
    inner = [f"{o}.{n}" for o, fields in _nested(target).items() for n in fields]
    own = "model." if target == "model" else "deployment."
    tags = ["tags.KEY"] + (["model.tags.KEY"] if target == "deployment" else [])
    return [*plain(target), *(n for n in inner if not n.startswith(own)), *tags]


def resolve(text: str, target: Target, path: Path) -> Field:
    """Return the field of a name in a filter.

    Args:
        text: The filter, for the message.
        target: What is searched for.
        path: The name.

    Raises:
        InvalidInputError: There is no such field.
    """
    parts = path.parts
    if parts[0] in _TAG_WORDS:
        return _tag(text, target, path, target, parts[1:])
    if parts[0] == "model" and len(parts) > 1 and parts[1] in _TAG_WORDS:
        return _tag(text, target, path, "model", parts[2:])
    if len(parts) == 1:
        field = plain(target).get(parts[0])
    elif len(parts) == 2:
        field = _nested(target).get(parts[0], {}).get(parts[1])
    else:
        field = None
    if field is None:
        known = names(target)
        raise problem(
            "filter",
            text,
            path.start,
            path.end,
            f"{target.capitalize()}s have no field {_shown(parts)!r}."
            f"{_near(parts, known)} Fields: {', '.join(known)}.",
        )
    return field


def _tag(
    text: str, target: Target, path: Path, owner: Target, key: Iterable[str]
) -> Field:
    name = ".".join(key)
    if not name:
        raise problem(
            "filter",
            text,
            path.start,
            path.end,
            "A tag is named by its key: tags.stage, or tags.`any key`.",
        )
    table = _TAGS[owner]
    prefix = "" if owner == target else f"{owner}."
    return Field(
        f"{prefix}tags.{name}",
        Kind.TEXT,
        table.c.value,
        link=table.c[f"{owner}_id"],
        owner=owner,
        key=name,
    )


def _shown(parts: tuple[str, ...]) -> str:
    shown = ".".join(parts)
    return shown if len(shown) <= 60 else shown[:59] + "…"


def _near(parts: tuple[str, ...], known: list[str]) -> str:
    name = ".".join(parts)[:100].lower()
    exact = [k for k in known if k == f"model.{name}"]
    return suggestion(name, exact or known)
