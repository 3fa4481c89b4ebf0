"""Users who only read or only register, with the rights of docs/registry-access.md."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, make_url, text

from prefect_lume import migrations
from prefect_lume.errors import LumeError, PermissionDeniedError
from prefect_lume.migrations.grants import Role, create_user, grants
from prefect_lume.registry import ModelDBService
from prefect_lume.registry.tables import metadata
from prefect_lume.storage.sql import get_engine, translated

PAGE = Path(__file__).parents[3] / "docs" / "registry-access.md"
SERVERS = [
    pytest.param(name, marks=pytest.mark.service(name))
    for name in ("mysql", "mariadb", "postgresql")
]
ALL = ["sqlite", *SERVERS]
#: What a registrar may change of rows that are there.
CHANGEABLE = {
    "model": {"revision"},
    "model_tag": {"value", "value_start"},
    "deployment": {"is_live", "retired", "description", "search_text"},
    "deployment_lock": set(),
    "deployment_alias": {"deployment_id"},
    "deployment_tag": {"value", "value_start"},
    "project": {"description", "revision"},
    "flow": {"deployment_id", "composition"},
    "flow_of_flows": set(),
    "registry_event": set(),
}


def revocations(backend: str, name: str) -> list[str]:
    """Return the SQL that removes a user whose name has an apostrophe."""
    if backend != "postgresql":
        doubled = name.replace("'", "''")
        return [f"DROP USER '{doubled}'@'%'"]
    return [
        f'REVOKE ALL ON ALL TABLES IN SCHEMA public FROM "{name}"',
        f'REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM "{name}"',
        f'REVOKE ALL ON SCHEMA public FROM "{name}"',
        f'DROP ROLE "{name}"',
    ]


def run(engine: Engine, parts: list[str]) -> None:
    with translated(engine), engine.begin() as connection:
        for part in parts:
            connection.exec_driver_sql(part.replace("%", "%%"))


@contextmanager
def user_of(engine: Engine, role: Role) -> Iterator[URL]:
    """Make a user of a role, and yield the URL to log in by."""
    parsed, backend = engine.url, engine.url.get_backend_name()
    if backend == "sqlite":
        yield make_url(f"sqlite:///file:{parsed.database}?mode=ro&uri=true")
        return
    name, password = f"{role}'s {secrets.token_hex(4)}", secrets.token_hex(8)
    made = create_user(role, backend, user=name).replace("<password>", password)
    granted = grants(role, backend, user=name, database=str(parsed.database))
    told = [part.strip() for part in f"{made}{granted}".split(";") if part.strip()]
    run(engine, told)
    url = parsed.set(username=name, password=password)
    try:
        yield url
    finally:
        get_engine(url).dispose()
        run(engine, revocations(backend, name))


def test_page_tells_of_every_call(lab: Any) -> None:
    """The page says of each changing call of the service whether a registrar may."""
    rows = dict(re.findall(r"^\| `(\w+)` \| (may.*?) \|$", PAGE.read_text(), re.M))
    reading = ("get_", "search_", "count_", "_")
    others = {"apply_schema", "close", "heard_by", "is_preview", "preview"}
    calls = {name for name in dir(ModelDBService) if not name.startswith(reading)}
    assert set(rows) == calls - others
    may_not = {name for name, word in rows.items() if word.startswith("may not")}
    partly = {name for name, word in rows.items() if "but not" in word}
    service = object.__new__(ModelDBService)
    assert set(lab.changes(service, None)) == set(rows) - may_not
    assert set(lab.removals(service, None)) == may_not | partly


@pytest.mark.service("mysql")
def test_partial_revokes_take_the_name_of_a_database_as_it_stands(
    own_server: Callable[[str], AbstractContextManager[Any]],
) -> None:
    """The reader reads that database, and none whose name is merely alike."""
    with own_server("mysql") as server:
        owner = get_engine(server.url)
        made = create_user("reader", "mysql").replace("<password>", "p")
        granted = grants("reader", "mysql", database="a_b", partial_revokes=True)
        alike = [f"CREATE {kind}" for kind in ("DATABASE a_b", "DATABASE axb")]
        run(owner, ["SET GLOBAL partial_revokes = ON", *alike])
        run(owner, ["CREATE TABLE a_b.t (n INT)", "CREATE TABLE axb.t (n INT)"])
        run(owner, [made, granted])
        url = make_url(server.url).set(username="lume_reader", password="p")
        reader = get_engine(url.set(database="a_b"))
        run(reader, ["SELECT * FROM t"])
        with pytest.raises(PermissionDeniedError):
            run(reader, ["SELECT * FROM axb.t"])
        for engine in (owner, reader):
            engine.dispose()


@pytest.mark.parametrize("engine", ALL, indirect=True)
def test_reader_reads_all_and_changes_nothing(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """A reader reads everything; each changing call says that it may not."""
    at = lab.fill(registry)
    before = lab.rows(engine)
    with user_of(engine, "reader") as url:
        reader = ModelDBService(get_engine(url), migrate=migrations.upgrade)
        migrations.ensure(get_engine(url))
        assert reader.get_models() == registry.get_models()
        assert reader.get_deployments() == registry.get_deployments()
        assert reader.get_projects() == registry.get_projects()
        assert reader.get_history() == registry.get_history()
        assert reader.get_lineage(at.first) == registry.get_lineage(at.first)
        assert reader.count_deployments("tags.k = 'v'") == 1
        chain = reader.get_flow_of_flows(flow_name="chain")
        assert chain == registry.get_flow_of_flows(flow_name="chain")
        for calls in (lab.changes(reader, at), lab.removals(reader, at)):
            for name, call in calls.items():
                with pytest.raises(PermissionDeniedError) as caught:
                    call()
                assert (url.password or "no secret") not in str(caught.value), name
        reader.close()
    assert lab.rows(engine) == before


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
def test_registrar_registers(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """A registrar fills an empty registry and makes each change of a filled one."""
    with user_of(engine, "registrar") as url:
        registrar = ModelDBService(get_engine(url), actor="registrar")
        migrations.ensure(get_engine(url))
        at = lab.fill(registrar)
        for name, call in lab.changes(registrar, at).items():
            events = len(registrar.get_history())
            call()
            assert len(registrar.get_history()) > events, name
        registrar.close()
    lab.check_ledger(registry, engine)
    assert {event.actor for event in registry.get_history()} == {"registrar"}
    found = registry.get_deployment(deployment_id=at.first)
    assert (found.description, found.tags) == ("new", {"k": "2", "new": "1"})
    assert registry.get_flow_of_flows(flow_name="idle").subflows[0].name == "only"


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
def test_registrar_takes_nothing_away(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """What would remove something raises for a registrar, and all stays as it was."""
    at = lab.fill(registry)
    before = lab.rows(engine)
    with user_of(engine, "registrar") as url:
        registrar = ModelDBService(get_engine(url), actor="registrar")
        for name, call in lab.removals(registrar, at).items():
            with pytest.raises(PermissionDeniedError) as caught:
                call()
            assert str(url.password) not in str(caught.value), name
            assert lab.rows(engine) == before, name
        registrar.close()
    # The same calls of the owner do what they say.
    for name, call in lab.removals(registry, at).items():
        call()
        assert lab.rows(engine) != before, name
        before = lab.rows(engine)
    lab.check_ledger(registry, engine)


def forbidden(backend: str) -> list[str]:
    """Return SQL that no registrar may run, of which none would change a row."""
    parts = ["DROP TABLE registry_event", "ALTER TABLE model ADD COLUMN x INTEGER"]
    for table in metadata.sorted_tables:
        allowed = CHANGEABLE[table.name]
        parts.append(f"DELETE FROM {table.name} WHERE 1 = 0")
        parts.append(f"TRUNCATE TABLE {table.name}")
        for column in table.columns:
            mark = '"' if backend == "postgresql" else "`"
            quoted = f"{mark}{column.name}{mark}"
            if column.name not in allowed and column.computed is None:
                parts.append(f"UPDATE {table.name} SET {quoted} = {quoted} WHERE 1 = 0")
    parts.append("DELETE FROM lume_schema_version WHERE 1 = 0")
    parts.append("UPDATE lume_schema_version SET version_num = '0001' WHERE 1 = 0")
    parts.append("INSERT INTO lume_schema_version VALUES ('0009')")
    if backend == "postgresql":
        parts.append(
            "INSERT INTO model_tag (model_id, key, value, value_start) "
            "SELECT model_id, key, value, value_start FROM model_tag "
            "ON CONFLICT (model_id, key) DO UPDATE SET key = 'x'"
        )
    else:
        parts.append("REPLACE INTO model_tag SELECT * FROM model_tag")
        parts.append(
            "INSERT INTO deployment (deployment_id, source) VALUES (1, 'x') "
            "ON DUPLICATE KEY UPDATE source = 'x'"
        )
    return parts


@pytest.mark.parametrize("engine", SERVERS, indirect=True)
def test_database_itself_refuses_it_to_a_registrar(
    registry: ModelDBService, engine: Engine, lab: Any
) -> None:
    """SQL of a registrar's own changes no stored value, no event, and removes none."""
    lab.fill(registry)
    before = lab.rows(engine)
    with user_of(engine, "registrar") as url:
        own = get_engine(url)
        for part in forbidden(engine.url.get_backend_name()):
            with pytest.raises(PermissionDeniedError):
                run(own, [part])
        with own.begin() as connection:
            for name, columns in CHANGEABLE.items():
                for column in columns:
                    connection.execute(
                        text(f"UPDATE {name} SET {column} = {column} WHERE 1 = 0")
                    )
        own.dispose()
    assert lab.rows(engine) == before
    assert set(CHANGEABLE) == set(metadata.tables)


@pytest.fixture
def archive() -> Iterator[Path]:
    """A folder that another user than root could use."""
    folder = Path(tempfile.mkdtemp(prefix="lume-archive-"))
    yield folder
    shutil.rmtree(folder)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Open files with the rights of a user who owns none."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_file_of_another_user_is_read_and_not_written(archive: Path, lab: Any) -> None:
    """On a SQLite file that one may not write: reading works, writing says so."""
    if os.geteuid():
        pytest.skip("Becoming another user needs a superuser.")
    path = archive / "registry.db"
    owner = ModelDBService(get_engine(f"sqlite:///{path}"), migrate=migrations.upgrade)
    owner.apply_schema()
    lab.fill(owner)
    expected = owner.get_flow_of_flows(flow_name="chain")
    owner.close()
    path.chmod(0o444)
    archive.chmod(0o555)
    query = "mode=ro&immutable=1&uri=true"
    with as_nobody():
        reader = ModelDBService(get_engine(f"sqlite:///file:{path}?{query}"))
        assert reader.get_flow_of_flows(flow_name="chain") == expected
        with pytest.raises(PermissionDeniedError):
            reader.store_project("new")
        reader.close()
        # Without that word the file is not read wrongly either.
        plain = ModelDBService(get_engine(f"sqlite:///{path}"))
        with pytest.raises(LumeError):
            plain.store_project("new")
        plain.close()
    assert owner.get_flow_of_flows(flow_name="chain") == expected
    assert len(owner.get_projects()) == 2
    owner.close()
