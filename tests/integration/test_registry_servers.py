"""The registry on real databases: their own constraints, users and faults."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    Table,
    column,
    event,
    exc,
    insert,
    make_url,
    select,
    table,
    text,
    update,
)

from prefect_lume import migrations
from prefect_lume.errors import PermissionDeniedError, StorageError
from prefect_lume.registry import ModelDBService, SubflowEntry, transactions
from prefect_lume.registry.ledger import Transaction
from prefect_lume.registry.tables import metadata
from prefect_lume.storage.sql import get_engine

MYSQL = pytest.param("mysql", marks=pytest.mark.service("mysql"))
MARIADB = pytest.param("mariadb", marks=pytest.mark.service("mariadb"))
POSTGRESQL = pytest.param("postgresql", marks=pytest.mark.service("postgresql"))
SERVERS = [MYSQL, MARIADB, POSTGRESQL]
SHA = "ab" * 32


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'registry.db'}"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = get_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def registry(engine: Engine) -> ModelDBService:
    """A registry with a model, two deployments, a flow and a flow-of-flows."""
    service = ModelDBService(engine, migrate=migrations.upgrade)
    service.apply_schema()
    model_id = service.store_model(
        author="a", laboratory="l", facility="f", beampath="b", description="d"
    )
    for version in ("1", "2"):
        number = service.store_deployment(
            model_id=model_id,
            version=version,
            source="file:///x.tar.gz",
            sha256=SHA,
            package_import_name="x",
        )
    service.store_project("test")
    service.store_flow(
        flow_id="a", flow_name="a", project_name="test", deployment_id=number
    )
    service.store_flow_of_flows(
        parent_flow_id="p",
        parent_flow_name="p",
        project_name="test",
        subflows=[SubflowEntry("a", "first", 1), SubflowEntry("a", "second", 2)],
    )
    return service


def insert_copy(engine: Engine, name: str, changes: dict[str, Any]) -> None:
    """Insert a changed copy of a table's first row."""
    source: Table = metadata.tables[name]
    with engine.begin() as connection:
        row = connection.execute(select(source).order_by(*source.primary_key)).first()
        assert row is not None
        values = dict(row._mapping)
        values.pop("live_model_id", None)
        for key in source.primary_key:
            if isinstance(key.type, Integer):
                values.pop(key.name)
        connection.execute(insert(source).values({**values, **changes}))


FORBIDDEN: list[tuple[str, dict[str, Any]]] = [
    ("model", {}),
    ("deployment", {"is_live": False}),
    ("deployment", {"version": "3", "is_live": True}),
    ("deployment", {"version": "3", "is_live": False, "model_id": 999}),
    ("project", {"history_id": "another"}),
    ("project", {"project_name": "Test"}),
    ("registry_event", {}),
    ("flow", {"flow_id": "new"}),
    ("flow", {"flow_name": "new"}),
    ("flow", {"flow_id": "new", "flow_name": "new", "project_name": "none"}),
    ("flow", {"flow_id": "new", "flow_name": "new", "deployment_id": 999}),
    ("flow_of_flows", {}),
    ("flow_of_flows", {"name": "new", "position": 0}),
    ("flow_of_flows", {"name": "new", "flow_id": "none"}),
    ("flow_of_flows", {"name": "new", "parent_flow_id": "none"}),
]
ALLOWED: list[tuple[str, dict[str, Any]]] = [
    ("model", {"fingerprint": SHA}),
    ("deployment", {"version": "3", "is_live": False}),
    ("project", {"project_name": "Test", "history_id": "another"}),
    ("flow", {"flow_id": "new", "flow_name": "new"}),
    ("flow_of_flows", {"name": "new"}),
]


@pytest.mark.parametrize("url", ["sqlite", *SERVERS], indirect=True)
def test_database_itself_holds_the_rules(
    registry: ModelDBService, engine: Engine
) -> None:
    """A program that writes past this code cannot break the rules either."""
    for name, changes in FORBIDDEN:
        # MySQL reports a failed CHECK as an operational error.
        with pytest.raises(
            (exc.IntegrityError, exc.OperationalError),
            match=r"(?i)constraint|duplicate|foreign",
        ):
            insert_copy(engine, name, changes)
    for name, changes in ALLOWED:
        insert_copy(engine, name, changes)


@pytest.mark.parametrize("url", ["sqlite", *SERVERS], indirect=True)
def test_database_itself_refuses_a_second_live(
    registry: ModelDBService, engine: Engine
) -> None:
    """Two live deployments of one model cannot be, whoever writes; two others can."""
    with engine.begin() as connection:
        connection.execute(update(metadata.tables["deployment"]).values(is_live=False))
    with pytest.raises(exc.IntegrityError), engine.begin() as connection:
        connection.execute(update(metadata.tables["deployment"]).values(is_live=True))
    assert [d.is_live for d in registry.get_deployments()] == [False, False]


@contextmanager
def reader_of(url: str) -> Iterator[str]:
    """Yield the URL of a user who may only read, or of the file opened read-only."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        yield f"sqlite:///file:{parsed.database}?mode=ro&uri=true"
        return
    name, password = f"reader_{secrets.token_hex(4)}", secrets.token_hex(8)
    on_postgresql = parsed.get_backend_name() == "postgresql"
    if on_postgresql:
        make = [
            f"CREATE ROLE {name} LOGIN PASSWORD '{password}'",
            f"GRANT USAGE ON SCHEMA public TO {name}",
            f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {name}",
        ]
        drop = [
            f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {name}",
            f"REVOKE ALL ON SCHEMA public FROM {name}",
            f"DROP ROLE {name}",
        ]
    else:
        make = [
            f"CREATE USER {name}@'%' IDENTIFIED BY '{password}'",
            f"GRANT SELECT ON `{parsed.database}`.* TO {name}@'%'",
        ]
        drop = [f"DROP USER {name}@'%'"]
    owner = get_engine(url)
    with owner.begin() as connection:
        for statement in make:
            connection.execute(text(statement))
    reader = parsed.set(username=name, password=password)
    try:
        yield reader.render_as_string(hide_password=False)
    finally:
        get_engine(reader).dispose()
        with owner.begin() as connection:
            for statement in drop:
                connection.execute(text(statement))


@pytest.mark.parametrize("url", ["sqlite", *SERVERS], indirect=True)
def test_reader_reads_and_is_told_that_it_may_not_write(
    registry: ModelDBService, url: str
) -> None:
    """A user with reading rights reads everything; each write says it may not."""
    with reader_of(url) as reader_url:
        reader = ModelDBService(get_engine(reader_url))
        assert reader.get_models() == registry.get_models()
        chain = reader.get_flow_of_flows(flow_name="p")
        assert chain == registry.get_flow_of_flows(flow_name="p")
        number = chain.subflows[0].flow.deployment_id
        assert number is not None
        writes: list[Callable[[], Any]] = [
            lambda: reader.store_project("new"),
            lambda: reader.promote(number - 1),
            lambda: reader.delete_flow("p"),
            lambda: reader.store_model(
                author="x", laboratory="l", facility="f", beampath="b", description="d"
            ),
        ]
        for write in writes:
            with pytest.raises(PermissionDeniedError) as caught:
                write()
            assert (make_url(reader_url).password or "no") not in str(caught.value)
        reader.close()
    assert registry.get_live_deployment(1).deployment_id == number


@pytest.mark.parametrize("url", SERVERS, indirect=True)
def test_real_deadlock_is_repeated(engine: Engine) -> None:
    """Of two transactions that wait for each other, the loser runs again and passes."""
    pair = table("pair", column("id", Integer), column("n", Integer))
    with engine.begin() as connection:
        connection.execute(
            text("CREATE TABLE pair (id INTEGER PRIMARY KEY, n INTEGER)")
        )
        connection.execute(insert(pair), [{"id": 1, "n": 0}, {"id": 2, "n": 0}])
    meet = threading.Barrier(2)
    attempts: list[int] = []

    def add(first: int, second: int) -> None:
        mine: list[int] = []

        def work(tx: Transaction) -> None:
            mine.append(1)
            attempts.append(1)
            one, two = (update(pair).where(pair.c.id == i) for i in (first, second))
            tx.connection.execute(one.values(n=pair.c.n + 1))
            if len(mine) == 1:
                meet.wait(10)
            tx.connection.execute(two.values(n=pair.c.n + 1))

        transactions.write(engine, work, actor="tester")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(add, (1, 2), (2, 1)))
    with engine.connect() as connection:
        assert connection.execute(select(pair.c.n)).scalars().all() == [2, 2]
    assert len(attempts) > 2


@pytest.mark.parametrize("url", SERVERS, indirect=True)
def test_changes_of_one_model_wait_for_each_other(
    registry: ModelDBService, engine: Engine
) -> None:
    """What changes a model waits for its lock; what changes another one does not."""
    flow = registry.get_flow(flow_name="a")
    assert flow.deployment is not None
    number, model = flow.deployment.deployment_id, flow.deployment.model_id
    other = registry.store_model(
        author="x", laboratory="l", facility="f", beampath="b", description="d"
    )
    values = {"source": "x", "sha256": SHA, "package_import_name": "x"}
    changes: list[Callable[[], Any]] = [
        lambda: registry.set_live(number),
        lambda: registry.store_deployment(model_id=model, version="3", **values),
        lambda: registry.store_flow(
            flow_id="a", flow_name="a", project_name="test", deployment_id=number
        ),
        lambda: registry.delete_deployment(number, force=True),
        lambda: registry.delete_model(model),
    ]
    models = metadata.tables["model"]
    lock = select(models).where(models.c.model_id == model).with_for_update()
    with ThreadPoolExecutor(len(changes)) as pool:
        with engine.begin() as connection:
            connection.execute(lock)
            waiting = [pool.submit(change) for change in changes]
            registry.store_deployment(model_id=other, version="1", **values)
            done, _ = wait(waiting, timeout=1)
        assert done == set()
        wait(waiting, timeout=60)
    assert [call.exception() is None for call in waiting] == [
        True,
        True,
        True,
        False,
        False,
    ]
    assert registry.get_live_deployment(other).model_id == other


@pytest.mark.parametrize("url", SERVERS, indirect=True)
def test_session_that_is_killed_leaves_nothing_half_written(
    registry: ModelDBService, engine: Engine, url: str
) -> None:
    """When the server ends the session between two statements, all stays as it was."""
    before = registry.get_flow_of_flows(flow_name="p")
    killer = get_engine(url, pool_size=1)
    on_postgresql = engine.dialect.name == "postgresql"

    def kill(connection: Connection, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("INSERT INTO flow_of_flows"):
            return
        ask = "pg_backend_pid()" if on_postgresql else "CONNECTION_ID()"
        cursor.execute(f"SELECT {ask}")
        session = cursor.fetchone()[0]
        with killer.begin() as other:
            if on_postgresql:
                other.exec_driver_sql(f"SELECT pg_terminate_backend({session})")
            else:
                other.exec_driver_sql(f"KILL {session}")

    event.listen(engine, "before_cursor_execute", kill)
    try:
        with pytest.raises(StorageError):
            registry.store_flow_of_flows(
                parent_flow_id="p",
                parent_flow_name="p",
                project_name="test",
                subflows=[SubflowEntry("a", "other", 1)],
                composition={"new": True},
            )
    finally:
        event.remove(engine, "before_cursor_execute", kill)
        killer.dispose()
    assert registry.get_flow_of_flows(flow_name="p") == before


@pytest.mark.parametrize("url", [MARIADB], indirect=True)
def test_driver_name_of_mariadb_works_too(url: str) -> None:
    """MariaDB may be named by SQLAlchemy's own dialect for it."""
    engine = get_engine(make_url(url).set(drivername="mariadb+pymysql"))
    service = ModelDBService(engine, migrate=migrations.upgrade)
    service.apply_schema()
    assert migrations.check(engine) == []
    assert service.store_project("Test") == "Test"
    assert [p.project_name for p in service.get_projects()] == ["Test"]
    service.close()


@pytest.mark.parametrize("url", [MYSQL, MARIADB], indirect=True)
def test_tables_are_innodb_and_hold_every_character(
    registry: ModelDBService, engine: Engine
) -> None:
    """All tables are InnoDB; no text column is of an older, smaller character set."""
    with engine.connect() as connection:
        engines = connection.execute(
            text(
                "SELECT DISTINCT engine FROM information_schema.tables "
                "WHERE table_schema = DATABASE()"
            )
        )
        sets = connection.execute(
            text(
                "SELECT DISTINCT character_set_name, collation_name "
                "FROM information_schema.columns WHERE table_schema = DATABASE() "
                "AND table_name IN ('model', 'deployment', 'project', 'flow', "
                "'flow_of_flows') AND data_type IN ('varchar', 'mediumtext', 'char')"
            )
        )
        assert engines.scalars().all() == ["InnoDB"]
        collations = {tuple(row) for row in sets}
    exact = "utf8mb4_nopad_bin" if engine.dialect.is_mariadb else "utf8mb4_0900_bin"
    assert collations == {("utf8mb4", exact), ("ascii", "ascii_bin")}
