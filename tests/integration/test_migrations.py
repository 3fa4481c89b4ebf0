"""The schema's revisions, on every database: up, down, at once, and in trouble."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event, inspect, text

from prefect_lume import migrations
from prefect_lume.errors import SchemaError, StorageError
from prefect_lume.migrations._locking import exclusive
from prefect_lume.pipelines.orm.tables import metadata as pipeline_tables
from prefect_lume.registry import ModelDBService
from prefect_lume.registry.tables import metadata as registry_tables
from prefect_lume.results.stores.sql.tables import metadata as result_tables
from prefect_lume.storage.sql import get_engine

DATABASES = [
    "sqlite",
    pytest.param("mysql", marks=pytest.mark.service("mysql")),
    pytest.param("mariadb", marks=pytest.mark.service("mariadb")),
    pytest.param("postgresql", marks=pytest.mark.service("postgresql")),
]
OURS = {*registry_tables.tables, *result_tables.tables, *pipeline_tables.tables}


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'lume.db'}"
    return str(request.getfixturevalue(f"{request.param}_url"))


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = get_engine(url)
    yield engine
    engine.dispose()


def tables(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def execute(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_revisions_are_those_of_alembic() -> None:
    """The revisions told by the files' names are one line, as Alembic reads it."""
    folder = Path(migrations.__file__).parent
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    line = [script.revision for script in scripts.walk_revisions()]
    assert tuple(reversed(line)) == migrations.revisions()
    assert scripts.get_heads() == [migrations.head()]


def test_up_down_and_up_again(engine: Engine) -> None:
    """An empty database gets exactly the code's tables, loses them, gets them again."""
    assert migrations.current(engine) is None
    migrations.upgrade(engine)
    assert migrations.current(engine) == migrations.head()
    assert migrations.check(engine) == []
    assert tables(engine) == {*OURS, migrations.VERSION_TABLE}
    migrations.ensure(engine)
    migrations.downgrade(engine)
    assert (migrations.current(engine), tables(engine)) == (None, set())
    migrations.downgrade(engine)
    migrations.upgrade(engine)
    assert migrations.check(engine) == []


def test_upgrading_again_only_looks(engine: Engine) -> None:
    """A database at the newest revision is left alone, data and all."""
    registry = ModelDBService(engine, migrate=migrations.upgrade)
    registry.apply_schema()
    registry.store_project("test")
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    migrations.upgrade(engine)
    event.remove(engine, "before_cursor_execute", note)
    changing = re.compile(r"\s*(CREATE|DROP|ALTER|INSERT|UPDATE|DELETE)\b", re.I)
    assert [statement for statement in sent if changing.match(statement)] == []
    assert [p.project_name for p in registry.get_projects()] == ["test"]


def test_tables_of_the_code_are_those_of_the_revisions(engine: Engine) -> None:
    """What the code would create itself differs in nothing but the revision's name."""
    registry_tables.create_all(engine)
    result_tables.create_all(engine)
    pipeline_tables.create_all(engine)
    assert migrations.check(engine) == [
        f"The schema revision is missing, not {migrations.head()}."
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("ALTER TABLE deployment ADD COLUMN extra INTEGER", "'extra' of table 'deplo"),
        ("ALTER TABLE project DROP COLUMN description", "'description' of table 'proj"),
        ("DROP TABLE blob_chunk", "Table 'blob_chunk' is missing"),
        ("DROP INDEX ix_result_flow_id", "index 'ix_result_flow_id' of table 'result'"),
        ("DROP TABLE lume_schema_version", "revision is missing"),
    ],
)
def test_drift_is_found(engine: Engine, change: str, words: str) -> None:
    """A change by hand is named, in one line, and nothing else is."""
    migrations.upgrade(engine)
    if change.startswith("DROP INDEX") and engine.dialect.name == "mysql":
        change += " ON result"
    execute(engine, change)
    lines = migrations.check(engine)
    assert len(lines) == 1
    assert words in lines[0]


def test_missing_check_and_changed_type_are_found(engine: Engine) -> None:
    """Also what databases cannot all change by hand: a lost check, another type."""
    migrations.upgrade(engine)
    name = engine.dialect.name
    if name == "sqlite":
        execute(
            engine,
            "DROP TABLE flow_of_flows",
            "CREATE TABLE flow_of_flows (id INTEGER NOT NULL PRIMARY KEY "
            "AUTOINCREMENT, parent_flow_id VARCHAR(36) NOT NULL, flow_id VARCHAR(36) "
            "NOT NULL, position TEXT NOT NULL, name VARCHAR(255) NOT NULL, "
            "mapped_parameters JSON NOT NULL, parameters JSON NOT NULL, options JSON "
            "NOT NULL, CONSTRAINT uq_flow_of_flows_parent_flow_id_name UNIQUE "
            "(parent_flow_id, name), CONSTRAINT fk_flow_of_flows_parent_flow_id "
            "FOREIGN KEY(parent_flow_id) REFERENCES flow (flow_id) ON DELETE CASCADE, "
            "CONSTRAINT fk_flow_of_flows_flow_id FOREIGN KEY(flow_id) REFERENCES flow "
            "(flow_id))",
            "CREATE INDEX ix_flow_of_flows_flow_id ON flow_of_flows (flow_id)",
        )
    else:
        modify = (
            "ALTER COLUMN position TYPE TEXT"
            if name == "postgresql"
            else "MODIFY position TEXT NOT NULL"
        )
        execute(
            engine,
            "ALTER TABLE flow_of_flows DROP CONSTRAINT ck_flow_of_flows_position",
            f"ALTER TABLE flow_of_flows {modify}",
        )
    changed, lost = migrations.check(engine)
    assert "'position' of table 'flow_of_flows' has another type" in changed
    assert "check 'ck_flow_of_flows_position'" in lost


def test_other_tables_are_none_of_its_business(engine: Engine) -> None:
    """Another program's tables in the same database are neither drift nor dropped."""
    execute(engine, "CREATE TABLE theirs (n INTEGER)")
    migrations.upgrade(engine)
    assert migrations.check(engine) == []
    migrations.downgrade(engine)
    assert tables(engine) == {"theirs"}


def test_tables_of_another_program_are_not_taken_over(engine: Engine) -> None:
    """Where a table of that name exists already, nothing is created."""
    execute(engine, "CREATE TABLE flow (n INTEGER)")
    with pytest.raises(SchemaError, match=r"'flow'.*empty database"):
        migrations.upgrade(engine)
    assert tables(engine) == {"flow"}


def test_failed_upgrade_leaves_nothing(engine: Engine) -> None:
    """An upgrade that fails in the middle leaves no table, and can be run again."""
    execute(engine, "CREATE VIEW blob_chunk AS SELECT 1 AS n")
    with pytest.raises(StorageError):
        migrations.upgrade(engine)
    assert tables(engine) == set()
    execute(engine, "DROP VIEW blob_chunk")
    migrations.upgrade(engine)
    assert migrations.check(engine) == []


def test_missing_older_and_newer_schemas_are_told_apart(engine: Engine) -> None:
    """The error says whether to upgrade the database or the package."""
    with pytest.raises(SchemaError, match=r"no tables.*prefect-lume db upgrade"):
        migrations.ensure(engine)
    migrations.upgrade(engine)
    execute(engine, "UPDATE lume_schema_version SET version_num = '9999'")
    for call in (migrations.ensure, migrations.upgrade, migrations.downgrade):
        with pytest.raises(SchemaError, match=r"'9999'.*newer version"):
            call(engine)
    assert migrations.check(engine) == [
        f"The schema revision is 9999, not {migrations.head()}."
    ]


def test_unknown_revision_is_refused(engine: Engine) -> None:
    """Asking for a revision that does not exist names those that do."""
    with pytest.raises(SchemaError, match=r"'0\.1'.*'0001'"):
        migrations.upgrade(engine, "0.1")
    assert tables(engine) == set()


PROGRAM = """
import logging, sys
logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
def state():
    root = logging.root
    return list(root.handlers), root.level, logging.getLogger("x").disabled
before = state()
from prefect_lume import migrations
from prefect_lume.storage.sql import get_engine
engine = get_engine(sys.stdin.readline().strip())
migrations.upgrade(engine)
migrations.ensure(engine)
assert before == state()
"""


def test_two_processes_upgrade_at_once(url: str, engine: Engine) -> None:
    """Two processes that start together both succeed, in silence."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [process.communicate(f"{url}\n", timeout=120)[0] for process in processes]
    assert outputs == ["", ""]
    assert [process.returncode for process in processes] == [0, 0]
    assert migrations.check(engine) == []


def test_upgrade_waits_for_another_one(engine: Engine) -> None:
    """While one migration runs, another one waits; it begins when that has ended."""
    with ThreadPoolExecutor(1) as pool:
        with exclusive(engine):
            waiting = pool.submit(migrations.upgrade, engine)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=1.5)
            assert migrations.current(engine) is None
        waiting.result(timeout=60)
    assert migrations.current(engine) == migrations.head()


def test_threads_upgrade_at_once(url: str, engine: Engine) -> None:
    """Threads of one process do not get into each other's way either."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrations.upgrade, [engine] * 4))
    assert migrations.check(engine) == []


def test_script_creates_the_same(engine: Engine) -> None:
    """The SQL that can be printed makes the same tables as running the revisions."""
    assert migrations.current(engine) is None
    is_mariadb = getattr(engine.dialect, "is_mariadb", False)
    dialect = "mariadb" if is_mariadb else engine.dialect.name
    lines = migrations.script(dialect).splitlines()
    body = "\n".join(line for line in lines if not line.startswith("--"))
    own = {"BEGIN", "COMMIT"}
    statements = [part.strip() for part in body.split(";")]
    execute(engine, *(part for part in statements if part and part not in own))
    assert migrations.check(engine) == []
    migrations.ensure(engine)
