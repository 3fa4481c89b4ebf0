"""The registry's tables, as the databases are told about them."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Table, UniqueConstraint, exc
from sqlalchemy.dialects import mysql
from sqlalchemy.dialects.mysql.base import MySQLDialect
from sqlalchemy.dialects.mysql.mariadb import MariaDBDialect
from sqlalchemy.orm import Session
from sqlalchemy.schema import CreateTable

from prefect_lume.errors import StorageError
from prefect_lume.registry import ModelDBService
from prefect_lume.registry.tables import DeploymentRow, ModelRow, metadata
from prefect_lume.storage.columns import ExactString, UTCDateTime
from prefect_lume.storage.sql import get_engine, translated

#: The longest key of InnoDB, in bytes; a character of utf8mb4 may take four.
LONGEST_KEY = 3072
TABLES = {table.name: table for table in metadata.sorted_tables}


def key_bytes(column: object) -> int:
    kind = getattr(column, "type", None)
    if isinstance(kind, ExactString):
        return kind.length * 4
    return int(getattr(kind, "length", None) or 8)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_keys_fit_into_innodb(table: Table) -> None:
    """Every key fits into InnoDB's limit with the longest characters."""
    keys = [list(table.primary_key), *(list(index.columns) for index in table.indexes)]
    keys += [
        list(c.columns) for c in table.constraints if isinstance(c, UniqueConstraint)
    ]
    for key in keys:
        assert sum(map(key_bytes, key)) <= LONGEST_KEY


@pytest.mark.parametrize(
    ("dialect", "collation"),
    [
        (mysql.dialect(), "utf8mb4_0900_bin"),
        (MariaDBDialect(), "utf8mb4_nopad_bin"),
    ],
    ids=["mysql", "mariadb"],
)
@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_text_is_exact_on_mysql_and_mariadb(
    table: Table, dialect: MySQLDialect, collation: str
) -> None:
    """Every text column has the collation that compares exactly; engine is InnoDB."""
    ddl = str(CreateTable(table).compile(dialect=dialect))
    text = re.findall(r"(?:VARCHAR|TEXT)\S* CHARACTER SET utf8mb4 COLLATE (\w+)", ddl)
    assert len(text) == len(re.findall("VARCHAR|TEXT", ddl)) > 0
    assert set(text) == {collation}
    assert "ENGINE=InnoDB" in ddl


def test_names_of_constraints_are_given() -> None:
    """Every constraint and index has a name of its own, for later migrations."""
    names = [
        item.name
        for table in TABLES.values()
        for item in [*table.constraints, *table.indexes]
    ]
    assert None not in names
    assert len(set(names)) == len(names)


def test_relationships_never_load_by_themselves(tmp_path: Path) -> None:
    """Touching what was not asked for raises, instead of one more statement a row."""
    engine = get_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    registry = ModelDBService(engine)
    registry.apply_schema()
    model_id = registry.store_model(
        author="a", laboratory="l", facility="f", beampath="b", description="d"
    )
    with Session(engine) as session:
        row = session.get_one(ModelRow, model_id)
        with pytest.raises(exc.InvalidRequestError, match="lazy='raise'"):
            _ = row.deployments
    with Session(engine) as session:
        assert session.query(DeploymentRow).all() == []
    registry.close()


def test_time_without_a_zone_is_refused() -> None:
    """A time whose zone is not known is not stored as if it were UTC."""
    naive = datetime(2026, 11, 20)  # noqa: DTZ001 - what is to be refused.
    with pytest.raises(ValueError, match="without a zone"):
        UTCDateTime().process_bind_param(naive, mysql.dialect())


def test_missing_tables_are_told_with_the_remedy(tmp_path: Path) -> None:
    """Using a database without tables says what to run."""
    registry = ModelDBService(get_engine(f"sqlite:///{tmp_path / 'empty.db'}"))
    with pytest.raises(StorageError, match="prefect-lume db upgrade"):
        registry.get_models()
    registry.close()


def test_repr_shows_no_password() -> None:
    """A service shows where its database is, and no secret."""
    url = "mysql+pymysql://lume:secret@db.example:3306/registry"
    shown = repr(ModelDBService(get_engine(url)))
    assert "secret" not in shown
    assert "db.example" in shown
    with pytest.raises(StorageError) as caught, translated(url):
        raise exc.OperationalError("SELECT 1", {}, Exception("lost"))
    assert "secret" not in str(caught.value)
