"""The registry's tables and how they are related.

Rules that must never break are constraints of the database, not only of this code:
five equal fields are one model, (model, version) is one deployment, a model has at
most one live deployment, a flow's name is unique in its project, and a subflow's name
is unique in its parent.

Relationships are loaded by the statement that asks for them, or not at all: a row
that is touched later raises instead of asking the database once more.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Computed,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from prefect_lume.storage.columns import (
    PLAIN_JSON,
    SHA256,
    ExactString,
    ExactText,
    UTCDateTime,
)

_OPTIONS: Final = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    # Results name deployments by id for years: an id is never given out twice.
    "sqlite_autoincrement": True,
}


#: A table that holds one row at most for a row of another one.
_BESIDE: Final = {**_OPTIONS, "sqlite_autoincrement": False}
#: Tables whose rows are found by what they join and need no number of their own.
_ASSOCIATION: Final = {
    **_OPTIONS,
    "sqlite_autoincrement": False,
    "sqlite_with_rowid": False,
}


class Base(DeclarativeBase):
    """The declarative base of the registry's rows."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )


class ModelRow(Base):
    """A scientific model."""

    __tablename__ = "model"

    model_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    author: Mapped[str] = mapped_column(ExactString(255))
    laboratory: Mapped[str] = mapped_column(ExactString(255))
    facility: Mapped[str] = mapped_column(ExactString(255))
    beampath: Mapped[str] = mapped_column(ExactString(255))
    description: Mapped[str] = mapped_column(ExactString(255))
    created: Mapped[datetime] = mapped_column(UTCDateTime)
    fingerprint: Mapped[str] = mapped_column(SHA256)
    """SHA-256 of the five fields: together they are too long for a key of InnoDB."""
    revision: Mapped[int] = mapped_column(Integer, server_default="0")
    """The number of the newest event: what changes a model locks and counts this."""
    search_text: Mapped[str | None] = mapped_column(ExactText)
    """The five fields, case-folded, one a line: what a search by text looks at."""

    deployments: Mapped[list[DeploymentRow]] = relationship(
        back_populates="model", passive_deletes="all", lazy="raise"
    )
    tags: Mapped[list[ModelTagRow]] = relationship(
        back_populates="model", passive_deletes=True, lazy="raise"
    )

    __table_args__ = (UniqueConstraint("fingerprint"), _OPTIONS)


class DeploymentRow(Base):
    """A versioned release of a model.

    Immutable but for ``is_live``, ``description`` and ``retired``.
    """

    __tablename__ = "deployment"

    deployment_id: Mapped[int] = mapped_column(Integer, primary_key=True)
    model_id: Mapped[int] = mapped_column(ForeignKey("model.model_id"))
    version: Mapped[str] = mapped_column(ExactString(255))
    deploy_date: Mapped[datetime] = mapped_column(UTCDateTime)
    package_import_name: Mapped[str] = mapped_column(ExactString(255))
    asset_dir: Mapped[str | None] = mapped_column(ExactString(1024))
    source: Mapped[str] = mapped_column(ExactText)
    sha256: Mapped[str] = mapped_column(SHA256)
    image: Mapped[str | None] = mapped_column(ExactString(1024))
    is_live: Mapped[bool] = mapped_column(Boolean)
    entrypoints: Mapped[dict[str, str] | None] = mapped_column(PLAIN_JSON)
    description: Mapped[str] = mapped_column(ExactString(4000), server_default="")
    retired: Mapped[datetime | None] = mapped_column(UTCDateTime)
    """When it was taken out of use. NULL: it may be made live."""
    parent_deployment_id: Mapped[int | None] = mapped_column(Integer, index=True)
    """What it was made from. Not a foreign key: it stays true after a deletion."""
    search_text: Mapped[str | None] = mapped_column(ExactText)
    """Its own words, case-folded, one a line: what a search by text looks at."""
    live_model_id: Mapped[int | None] = mapped_column(
        Integer,
        Computed("CASE WHEN is_live THEN model_id ELSE NULL END", persisted=True),
    )
    """The model's id while live, else NULL: unique, so one deployment at most is live.

    A partial index would say the same, but MySQL and MariaDB have none.
    """

    model: Mapped[ModelRow] = relationship(back_populates="deployments", lazy="raise")
    flows: Mapped[list[FlowRow]] = relationship(
        back_populates="deployment", passive_deletes="all", lazy="raise"
    )
    lock: Mapped[LockRow | None] = relationship(
        back_populates="deployment", passive_deletes=True, lazy="raise"
    )
    aliases: Mapped[list[AliasRow]] = relationship(
        back_populates="deployment", passive_deletes=True, lazy="raise"
    )
    tags: Mapped[list[DeploymentTagRow]] = relationship(
        back_populates="deployment", passive_deletes=True, lazy="raise"
    )

    __table_args__ = (
        UniqueConstraint("model_id", "version"),
        UniqueConstraint("live_model_id"),
        Index(None, "deploy_date"),
        Index(None, "sha256"),
        _OPTIONS,
    )


class LockRow(Base):
    """The resolved environment of a deployment.

    A table of its own, as it may be megabytes: SQLite walks through a long value to
    reach the columns behind it, and nobody who lists deployments wants to read it.
    """

    __tablename__ = "deployment_lock"

    deployment_id: Mapped[int] = mapped_column(
        ForeignKey("deployment.deployment_id", ondelete="CASCADE"),
        primary_key=True,
        autoincrement=False,
    )
    lock: Mapped[str] = mapped_column(ExactText)

    deployment: Mapped[DeploymentRow] = relationship(
        back_populates="lock", lazy="raise"
    )

    __table_args__ = (_BESIDE,)


class AliasRow(Base):
    """A name that points at one deployment of a model, and may be moved."""

    __tablename__ = "deployment_alias"

    model_id: Mapped[int] = mapped_column(
        ForeignKey("model.model_id", ondelete="CASCADE"), primary_key=True
    )
    alias: Mapped[str] = mapped_column(ExactString(255), primary_key=True)
    deployment_id: Mapped[int] = mapped_column(
        ForeignKey("deployment.deployment_id", ondelete="CASCADE"), index=True
    )

    deployment: Mapped[DeploymentRow] = relationship(
        back_populates="aliases", lazy="raise"
    )

    __table_args__ = (Index(None, "alias"), _ASSOCIATION)


class DeploymentTagRow(Base):
    """A key and its value that tell something of a deployment."""

    __tablename__ = "deployment_tag"

    deployment_id: Mapped[int] = mapped_column(
        ForeignKey("deployment.deployment_id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(ExactString(255), primary_key=True)
    value: Mapped[str] = mapped_column(ExactString(5000))
    value_start: Mapped[str] = mapped_column(ExactString(120))
    """The beginning of the value, as much as every database takes into an index."""

    deployment: Mapped[DeploymentRow] = relationship(
        back_populates="tags", lazy="raise"
    )

    __table_args__ = (Index(None, "key", "value_start"), _ASSOCIATION)


class ModelTagRow(Base):
    """A key and its value that tell something of a model."""

    __tablename__ = "model_tag"

    model_id: Mapped[int] = mapped_column(
        ForeignKey("model.model_id", ondelete="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(ExactString(255), primary_key=True)
    value: Mapped[str] = mapped_column(ExactString(5000))
    value_start: Mapped[str] = mapped_column(ExactString(120))

    model: Mapped[ModelRow] = relationship(back_populates="tags", lazy="raise")

    __table_args__ = (Index(None, "key", "value_start"), _ASSOCIATION)


class ProjectRow(Base):
    """A named group of flows."""

    __tablename__ = "project"

    project_name: Mapped[str] = mapped_column(ExactString(255), primary_key=True)
    description: Mapped[str] = mapped_column(ExactText)
    created: Mapped[datetime] = mapped_column(UTCDateTime)
    history_id: Mapped[str | None] = mapped_column(ExactString(36))
    """What its events name it by, as its name may change and be used again."""
    revision: Mapped[int] = mapped_column(Integer, server_default="0")
    """The number of the newest event, as a model's."""

    flows: Mapped[list[FlowRow]] = relationship(
        back_populates="project", passive_deletes="all", lazy="raise"
    )

    __table_args__ = (Index(None, "history_id", unique=True), _OPTIONS)


class FlowRow(Base):
    """A flow as Prefect knows it, and the deployment that serves it now."""

    __tablename__ = "flow"

    flow_id: Mapped[str] = mapped_column(ExactString(36), primary_key=True)
    flow_name: Mapped[str] = mapped_column(ExactString(255))
    project_name: Mapped[str] = mapped_column(ForeignKey("project.project_name"))
    deployment_id: Mapped[int | None] = mapped_column(
        ForeignKey("deployment.deployment_id"), index=True
    )
    """NULL for the parent of a flow-of-flows: no package holds it."""
    composition: Mapped[dict[str, Any] | None] = mapped_column(PLAIN_JSON)
    """What a parent keeps beside its subflows. NULL tells any other flow."""
    created: Mapped[datetime] = mapped_column(UTCDateTime)

    project: Mapped[ProjectRow] = relationship(back_populates="flows", lazy="raise")
    deployment: Mapped[DeploymentRow | None] = relationship(
        back_populates="flows", lazy="raise"
    )
    subflows: Mapped[list[SubflowRow]] = relationship(
        back_populates="parent",
        foreign_keys="SubflowRow.parent_flow_id",
        order_by="(SubflowRow.position, SubflowRow.id)",
        passive_deletes=True,
        lazy="raise",
    )
    parts: Mapped[list[SubflowRow]] = relationship(
        back_populates="flow",
        foreign_keys="SubflowRow.flow_id",
        passive_deletes="all",
        lazy="raise",
    )
    """The places where this flow takes part in a flow-of-flows."""

    __table_args__ = (
        UniqueConstraint("project_name", "flow_name"),
        Index(None, "flow_name"),
        _OPTIONS,
    )


class SubflowRow(Base):
    """One subflow of a flow-of-flows: its position, name and mapping."""

    __tablename__ = "flow_of_flows"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    parent_flow_id: Mapped[str] = mapped_column(
        ForeignKey("flow.flow_id", ondelete="CASCADE")
    )
    flow_id: Mapped[str] = mapped_column(ForeignKey("flow.flow_id"))
    position: Mapped[int] = mapped_column(Integer)
    name: Mapped[str] = mapped_column(ExactString(255))
    mapped_parameters: Mapped[dict[str, Any]] = mapped_column(PLAIN_JSON)
    parameters: Mapped[dict[str, Any]] = mapped_column(PLAIN_JSON)
    options: Mapped[dict[str, Any]] = mapped_column(PLAIN_JSON)

    parent: Mapped[FlowRow] = relationship(
        back_populates="subflows", foreign_keys=parent_flow_id, lazy="raise"
    )
    flow: Mapped[FlowRow] = relationship(
        back_populates="parts", foreign_keys=flow_id, lazy="raise"
    )

    __table_args__ = (
        CheckConstraint("position >= 1", name="position"),
        UniqueConstraint("parent_flow_id", "name"),
        Index(None, "flow_id"),
        _OPTIONS,
    )


class EventRow(Base):
    """One change of the registry: who, when, what, before, after. Never changed.

    It refers to rows by number or name and not by foreign keys, since it outlives them.
    """

    __tablename__ = "registry_event"

    event_id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True
    )
    subject: Mapped[str] = mapped_column(ExactString(16))
    """``model`` or ``project``: what the event's number counts."""
    subject_id: Mapped[str] = mapped_column(ExactString(36))
    """The model's number, or the project's ``history_id``."""
    number: Mapped[int] = mapped_column(Integer)
    """1 for the subject's first event, and so on without a gap."""
    kind: Mapped[str] = mapped_column(ExactString(32))
    deployment_id: Mapped[int | None] = mapped_column(Integer, index=True)
    previous_deployment_id: Mapped[int | None] = mapped_column(Integer, index=True)
    """The deployment that lost what the other one got: live, or an alias."""
    flow_id: Mapped[str | None] = mapped_column(ExactString(36), index=True)
    happened: Mapped[datetime] = mapped_column(UTCDateTime)
    actor: Mapped[str] = mapped_column(ExactString(255))
    reason: Mapped[str] = mapped_column(ExactString(4000))
    value_before: Mapped[dict[str, Any] | None] = mapped_column(PLAIN_JSON)
    value_after: Mapped[dict[str, Any] | None] = mapped_column(PLAIN_JSON)
    change_id: Mapped[str] = mapped_column(ExactString(32), index=True)
    """One for each call: whether a call whose connection was lost has happened."""

    __table_args__ = (UniqueConstraint("subject", "subject_id", "number"), _OPTIONS)


metadata = Base.metadata

#: The tables themselves, for statements that write.
MODELS: Final = metadata.tables["model"]
DEPLOYMENTS: Final = metadata.tables["deployment"]
LOCKS: Final = metadata.tables["deployment_lock"]
ALIASES: Final = metadata.tables["deployment_alias"]
DEPLOYMENT_TAGS: Final = metadata.tables["deployment_tag"]
MODEL_TAGS: Final = metadata.tables["model_tag"]
PROJECTS: Final = metadata.tables["project"]
FLOWS: Final = metadata.tables["flow"]
SUBFLOWS: Final = metadata.tables["flow_of_flows"]
EVENTS: Final = metadata.tables["registry_event"]
