"""The tables of pipeline results.

The migrations create them; ``metadata.create_all`` does the same for tests.

Whatever belongs to a run refers to ``pipeline_run``, and goes with it. A row there
exists before anything is known of the run: it is what writers of one run lock.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Computed,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
)

from prefect_lume.pipelines.orm.columns import (
    Id,
    JsonText,
    Message,
    Name,
    Status,
    ascii_text,
)
from prefect_lume.pipelines.rows import Kind
from prefect_lume.storage.columns import UTCDateTime

_OPTIONS: Final[dict[str, Any]] = {
    "mysql_engine": "InnoDB",
    "mysql_charset": "utf8mb4",
    "mariadb_engine": "InnoDB",
    "mariadb_charset": "utf8mb4",
    # The rows are found by their ids: SQLite need not number them besides.
    "sqlite_with_rowid": False,
}

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id(name: str, **options: Any) -> Column[str]:
    return Column(name, Id, **options)


def _needed_id(name: str) -> Column[str]:
    return _id(name, nullable=False)


def _run_id() -> Column[str]:
    run = ForeignKey("pipeline_run.run_id", ondelete="CASCADE")
    return Column("run_id", Id, run, nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean(create_constraint=False), nullable=False)


def _time(name: str, **options: Any) -> Column[Any]:
    return Column(name, UTCDateTime, **options)


def _common() -> tuple[Column[Any], ...]:
    """Return the columns that all four kinds have."""
    return (
        _id("id", primary_key=True),
        _run_id(),
        _id("parent_id"),
        Column("status", Status, nullable=False),
        Column("message", Message, nullable=False),
        _time("created"),
        _time("started"),
        _time("completed"),
        _flag("closed"),
        _flag("superseded"),
        _time("last_at"),
        Column("state_type", Name),
        Column("state_name", Name),
        _time("state_at"),
    )


def _below(table: str) -> Index:
    """Return the index from which what lies below an object is summarised."""
    return Index(
        f"ix_{table}_below",
        "parent_id",
        "superseded",
        "status",
        "started",
        "completed",
        "last_at",
    )


#: One row per run, whatever is known of it: what belongs to it refers to this.
pipeline_run = Table(
    "pipeline_run", metadata, _id("run_id", primary_key=True), **_OPTIONS
)

pipeline_execution = Table(
    "pipeline_execution",
    metadata,
    *_common(),
    Column("pipeline_id", Name, nullable=False),
    Column("run_name", Name, nullable=False),
    Column("input_data", JsonText, nullable=False),
    Column("flow_id", Name),
    Column("project_name", Name),
    Column("deployment_id", Integer),
    Column("prefect_deployment_id", Name),
    Column("parent_run_id", Name),
    Column("runner", Name),
    _flag("is_mapped"),
    _time("last_seen"),
    # By which runs of a time are found.
    Column(
        "ran_at", UTCDateTime, Computed("coalesce(started, created)", persisted=True)
    ),
    Index("ix_pipeline_execution_run_id", "run_id"),
    Index("ix_pipeline_execution_created", "created"),
    Index("ix_pipeline_execution_ran_at", "ran_at"),
    Index("ix_pipeline_execution_status", "status", "created"),
    Index("ix_pipeline_execution_pipeline_id", "pipeline_id", "created"),
    Index("ix_pipeline_execution_project_name", "project_name", "created"),
    Index("ix_pipeline_execution_deployment_id", "deployment_id", "created"),
    Index("ix_pipeline_execution_flow_id", "flow_id", "created"),
    Index("ix_pipeline_execution_parent_run_id", "parent_run_id"),
    Index("ix_pipeline_execution_state_type", "state_type"),
    **_OPTIONS,
)

pipeline_result = Table(
    "pipeline_result",
    metadata,
    *_common(),
    Column("pipeline_id", Name, nullable=False),
    Column("index", Integer, nullable=False),
    Column("pipeline_object", JsonText),
    _id("flow_run_id"),
    _time("flow_run_at"),
    _time("again_at"),
    Column("runner", Name),
    Column("reporter", Name),
    Index("ix_pipeline_result_run_id", "run_id"),
    _below("pipeline_result"),
    # When a pipeline ran last is the end of its part of this index.
    Index("ix_pipeline_result_pipeline_id", "pipeline_id", "started"),
    Index("ix_pipeline_result_flow_run_id", "flow_run_id"),
    Index("ix_pipeline_result_state_type", "state_type"),
    **_OPTIONS,
)

task_execution = Table(
    "task_execution",
    metadata,
    *_common(),
    Column("pipeline_task", Name, nullable=False),
    Column("task_id", Name, nullable=False),
    Column("config", JsonText, nullable=False),
    Index("ix_task_execution_run_id", "run_id"),
    _below("task_execution"),
    Index("ix_task_execution_pipeline_task", "pipeline_task"),
    Index("ix_task_execution_task_id", "task_id"),
    **_OPTIONS,
)

task_result = Table(
    "task_result",
    metadata,
    *_common(),
    _needed_id("pipeline_result_id"),
    Column("name", Name, nullable=False),
    Column("index", Integer),
    Column("task_object", JsonText),
    Column("run_count", Integer, nullable=False),
    Index("ix_task_result_run_id", "run_id"),
    _below("task_result"),
    Index("ix_task_result_pipeline_result_id", "pipeline_result_id"),
    **_OPTIONS,
)

#: Every change, by what changed and its id: an object's history lies together.
pipeline_state = Table(
    "pipeline_state",
    metadata,
    _id("target", primary_key=True),
    _id("id", primary_key=True),
    _run_id(),
    Column("kind", ascii_text(32), nullable=False),
    Column("status", Status, nullable=False),
    _time("timestamp", nullable=False),
    Column("message", Message, nullable=False),
    Column("state_type", Name),
    Column("state_name", Name),
    Column("run_count", Integer),
    _flag("inferred"),
    Index("ix_pipeline_state_run_id", "run_id"),
    **_OPTIONS,
)

#: The digest, kept up with every change of a pipeline result.
pipeline_digest = Table(
    "pipeline_digest",
    metadata,
    Column("pipeline_id", Name, primary_key=True),
    Column("success", BigInteger, nullable=False),
    Column("failure", BigInteger, nullable=False),
    Column("unfinished", BigInteger, nullable=False),
    # Microseconds from start to end, of all that have both, and how many have.
    Column("runtime", BigInteger, nullable=False),
    Column("runtimes", BigInteger, nullable=False),
    **_OPTIONS,
)

#: Up to when a source of changes has been read.
recorder_position = Table(
    "recorder_position",
    metadata,
    Column("source", Name, primary_key=True),
    _time("position", nullable=False),
    **_OPTIONS,
)

TABLES: Final[dict[Kind, Table]] = {
    Kind.EXECUTION: pipeline_execution,
    Kind.RESULT: pipeline_result,
    Kind.TASK_EXECUTION: task_execution,
    Kind.TASK_RESULT: task_result,
}

#: All tables with rows of runs, those that refer to others first.
OF_RUNS: Final = (
    pipeline_state,
    task_result,
    task_execution,
    pipeline_result,
    pipeline_execution,
    pipeline_run,
)
