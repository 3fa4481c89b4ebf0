"""Rows survive: up from every revision and back, on every database.

``frozen_rows`` holds, for each revision, rows as its code wrote them. A revision that
has no file there fails these tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Connection, Engine, column, inspect, select, table

from prefect_lume import migrations
from prefect_lume.registry import ModelDBService
from prefect_lume.storage.sql import get_engine

FROZEN = Path(__file__).parent / "frozen_rows"
DATABASES = [
    "sqlite",
    pytest.param("mysql", marks=pytest.mark.service("mysql")),
    pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
]
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=DATABASES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'lume.db'}"
    if request.param != "sqlite":
        url = request.getfixturevalue(f"{request.param}_url")
    engine = get_engine(url)
    yield engine
    engine.dispose()


def frozen(revision: str) -> Rows:
    """The rows of a revision: its own file's, and the older ones' of other tables."""
    rows: Rows = {}
    for name in migrations.revisions():
        rows |= yaml.safe_load((FROZEN / f"{name}.yaml").read_text("utf-8"))
        if name == revision:
            return rows
    raise AssertionError(revision)


def insert(engine: Engine, rows: Rows) -> None:
    """Insert rows by plain statements, those that others refer to first."""

    def fit(value: Any) -> Any:
        if isinstance(value, datetime):
            if engine.dialect.name == "sqlite":
                return value.isoformat(" ", "microseconds")
            return value.replace(tzinfo=UTC)
        return value

    with engine.begin() as connection:
        for name in in_order(connection, rows):
            for row in rows[name]:
                into = table(name, *map(column, row)).insert()
                # As a list: the values' types are then not told to the database.
                connection.execute(into, [{k: fit(v) for k, v in row.items()}])


def in_order(connection: Connection, rows: Rows) -> list[str]:
    names = [item for item, _ in inspect(connection).get_sorted_table_and_fkc_names()]
    assert set(rows) <= set(names)
    return [name for name in names if name in rows]


def stored(engine: Engine, only: Rows | None = None) -> Rows:
    """All rows as the database gives them, or those columns that ``only`` has."""
    found: Rows = {}
    with engine.connect() as connection:
        inspector = inspect(connection)
        for name in inspector.get_table_names():
            if name == migrations.VERSION_TABLE:
                continue
            columns = [item["name"] for item in inspector.get_columns(name)]
            if only is not None:
                known = only.get(name) or [{}]
                columns = [item for item in columns if item in known[0]]
            if columns:
                statement = select(*map(column, columns)).select_from(table(name))
                found[name] = [
                    dict(row) for row in connection.execute(statement).mappings()
                ]
    return {name: sorted(rows, key=repr) for name, rows in found.items()}


def common(rows: Rows, other: Rows) -> Rows:
    """Those columns of rows that are in the other ones too."""
    found = {
        name: [
            {k: v for k, v in row.items() if k in (other[name] or [row])[0]}
            for row in items
        ]
        for name, items in rows.items()
        if name in other
    }
    return {name: sorted(items, key=repr) for name, items in found.items()}


@pytest.mark.parametrize("revision", migrations.revisions())
def test_rows_of_every_revision_survive(engine: Engine, revision: str) -> None:
    """Up to the newest revision and step by step back, every row is as it was."""
    rows = frozen(revision)
    migrations.upgrade(engine, revision)
    insert(engine, rows)
    before = stored(engine)
    assert {k: len(v) for k, v in before.items() if v} == {
        k: len(v) for k, v in rows.items()
    }
    migrations.upgrade(engine)
    assert migrations.check(engine) == []
    after = stored(engine, before)
    assert after == common(before, after)
    read_by_the_code(engine, rows)
    known = migrations.revisions()
    for older in reversed(known[known.index(revision) : -1]):
        migrations.downgrade(engine, older)
        assert migrations.current(engine) == older
    assert stored(engine) == before


def read_by_the_code(engine: Engine, rows: Rows) -> None:
    """What is read at the newest revision is what was inserted, wherever it went."""
    registry = ModelDBService(engine, migrate=migrations.upgrade)
    locks = {
        item["deployment_id"]: item["lock"] for item in rows.get("deployment_lock", [])
    }
    for row in rows["deployment"]:
        found = registry.get_deployment(deployment_id=row["deployment_id"])
        for name in ("version", "source", "asset_dir", "image", "is_live", "sha256"):
            assert getattr(found, name) == row[name]
        assert found.deploy_date == row["deploy_date"].replace(tzinfo=UTC)
        assert found.lock == row.get("lock", locks.get(row["deployment_id"]))
    for row in rows["flow"]:
        flow = registry.get_flow(flow_id=row["flow_id"])
        assert (flow.flow_name, flow.project_name) == (
            row["flow_name"],
            row["project_name"],
        )
    parent = rows["flow_of_flows"][0]["parent_flow_id"]
    composed = registry.get_flow_of_flows(parent_flow_id=parent)
    assert [item.name for item in composed.subflows] == ["first", "first "]


@pytest.mark.parametrize("revision", migrations.revisions()[1:])
def test_one_step_down_keeps_what_the_older_revision_has(
    engine: Engine, revision: str
) -> None:
    """Rows of a revision lose by a downgrade what it added, and nothing else."""
    known = migrations.revisions()
    older = known[known.index(revision) - 1]
    migrations.upgrade(engine, revision)
    insert(engine, frozen(revision))
    before = stored(engine)
    migrations.downgrade(engine, older)
    after = stored(engine)
    kept, expected = common(after, before), common(before, after)
    # Where a large blob goes from the parts of an upload, its chunk is a new row.
    if older == "0001":
        moved = [row for row in kept["blob_chunk"] if row not in expected["blob_chunk"]]
        assert [bytes(row["data"]) for row in moved] == [b"\xff\xff"]
        expected["blob_chunk"] = kept["blob_chunk"]
    assert kept == expected
    locks = {
        row["deployment_id"]: row["lock"] for row in before.get("deployment_lock", [])
    }
    if locks:
        assert {
            row["deployment_id"]: row["lock"]
            for row in after["deployment"]
            if row["lock"] is not None
        } == locks
    migrations.upgrade(engine)
    assert migrations.check(engine) == []
