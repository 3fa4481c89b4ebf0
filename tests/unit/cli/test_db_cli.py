"""``prefect-lume db``, and the files that are made by it."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml
from click.testing import CliRunner

from prefect_lume import migrations
from prefect_lume.cli._main import cli
from prefect_lume.cli.db._databases import URL_VARIABLE
from prefect_lume.config import configure
from prefect_lume.migrations import diagram
from prefect_lume.registry.tables import metadata

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    """Each test has an embedded folder of its own."""
    monkeypatch.setenv("PREFECT_LUME_HOME", str(tmp_path / "lume"))
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    configure()


@pytest.fixture
def url(tmp_path):
    """A SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'by-url.db'}"


def run(*arguments, **options):
    """Run a command line as a person would."""
    return CliRunner().invoke(cli, ["db", *map(str, arguments)], **options)


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("docker/registry.sql", "schema --dialect mysql"),
        ("docs/assets/registry-schema.svg", "diagram --format svg"),
    ],
)
def test_committed_files_are_what_the_code_makes(path, command):
    """A file that differs from the code is to be made again, by the command named."""
    made = run(*command.split()).output
    assert (ROOT / path).read_text("utf-8") == made, (
        f"Run: prefect-lume db {command} --output {path}"
    )


def test_mermaid_of_the_page_is_what_the_code_makes():
    """The diagram in docs/schema.md is that of `prefect-lume db diagram`."""
    page = (ROOT / "docs/schema.md").read_text("utf-8")
    (block,) = re.findall(r"^```mermaid\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert block == run("diagram").output


def test_page_tells_every_revision():
    """docs/schema.md has a line for each revision, in order."""
    page = (ROOT / "docs/schema.md").read_text("utf-8")
    told = re.findall(r"^\| `(\d+)` \|", page, re.MULTILINE)
    assert tuple(told) == migrations.revisions()


def test_compose_file_starts_mysql_with_the_schema():
    """The server selects a database and finds the SQL where it looks for it."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
    mysql = compose["services"]["mysql"]
    assert mysql["environment"]["MYSQL_DATABASE"] == "lume"
    (config,) = mysql["configs"]
    assert config["target"].startswith("/docker-entrypoint-initdb.d/")
    assert config["target"].endswith(".sql")
    assert compose["configs"][config["source"]]["file"] == "docker/registry.sql"


def test_a_database_by_its_url_is_upgraded_and_looked_at(url):
    """`--url` needs no Block, and leaves the embedded database alone."""
    assert run("upgrade", "--url", url, "--to", "0002").output.endswith("→ 0002\n")
    assert run("upgrade", "--url", url).exit_code == 0
    rows = json.loads(run("current", "--url", url, "--json").output)
    assert rows == [
        {"database": url, "revision": migrations.head(), "head": migrations.head()}
    ]
    assert "no tables" in run("current").output


def test_url_of_the_environment_gives_way_to_services(url):
    """The variable names the database; both options at once are refused."""
    env = {URL_VARIABLE: url}
    assert url in run("current", env=env).output
    both = run("current", "--url", url, "--services", "x")
    assert both.exit_code == 2
    assert "not both" in both.output
    named = run("current", "--services", "no-such-block", env=env)
    assert named.exit_code == 1
    assert "no-such-block" in named.stderr


@pytest.mark.parametrize("scheme", ["mysql+pymysql", "nonsense+driver"])
def test_password_is_never_shown(scheme):
    """Neither a dead server nor an unknown driver brings the password to light."""
    env = {URL_VARIABLE: f"{scheme}://lume:hunter2@127.0.0.1:1/lume"}
    outcome = run("check", env=env)
    assert outcome.exit_code == 1
    assert outcome.stderr.startswith("Error: ")
    assert "hunter2" not in outcome.output + outcome.stderr
    helped = run("check", "--help", env=env)
    assert "hunter2" not in helped.output


def test_check_tells_one_line_per_difference(url):
    """A missing table is one line, its indices none; as JSON it is a list."""
    migrations_needed = run("check", "--url", url)
    assert migrations_needed.exit_code == 1
    assert "revision is missing" in migrations_needed.output
    run("upgrade", "--url", url)
    good = run("check", "--url", url)
    assert (good.exit_code, good.output) == (0, f"{url}: as this version expects.\n")
    run("downgrade", "--url", url, "--to", "0002", "--yes")
    lines = json.loads(run("check", "--url", url, "--json").output)[0]["differences"]
    assert sum("'pipeline_state'" in line for line in lines) == 1


def test_downgrade_asks_and_says_what_is_lost(url):
    """Without a terminal or --yes nothing is changed; the tables are named."""
    run("upgrade", "--url", url)
    asked = run("downgrade", "--url", url, "--to", "0003")
    assert asked.exit_code == 1
    assert "drops the table registry_event (0 rows)" in asked.stderr
    assert "--yes" in asked.stderr
    assert migrations.head() in run("current", "--url", url).output
    done = run("downgrade", "--url", url, "--to", "base", "--yes")
    assert done.output == f"{url}: {migrations.head()} → no tables\n"


def test_wrong_revisions_are_explained(url):
    """Unknown ones name the known; the wrong direction names the other command."""
    unknown = run("upgrade", "--url", url, "--to", "3")
    assert "Did you mean '0003'?" in unknown.stderr
    assert f"'{migrations.head()}'" in unknown.stderr
    run("upgrade", "--url", url, "--to", "0002")
    assert (
        "db downgrade --to 0001" in run("upgrade", "--url", url, "--to", "0001").stderr
    )
    up = run("downgrade", "--url", url, "--to", "0003", "--yes")
    assert "db upgrade --to 0003" in up.stderr
    assert "0002" in run("current", "--url", url).output


def test_dry_run_of_nothing_says_so(url):
    """At the revision that is asked for there is no SQL."""
    run("upgrade", "--url", url)
    outcome = run("upgrade", "--url", url, "--dry-run")
    assert outcome.output.splitlines()[1:] == ["-- Nothing to do."]


def test_grants_hold_no_password_and_tell_how_to_make_the_user(tmp_path):
    """Printed or written; what is no statement is a comment."""
    options = ("registrar", "--dialect", "mysql", "--user", "ci", "--database", "beam")
    outcome = run("grants", *options)
    assert outcome.exit_code == 0
    lines = outcome.output.splitlines()
    assert "--   CREATE USER 'ci'@'%' IDENTIFIED BY '<password>';" in lines
    assert "GRANT SELECT ON beam.lume_schema_version TO 'ci'@'%';" in lines
    assert run("grants", *options, "--output", tmp_path / "ci.sql").output == ""
    assert (tmp_path / "ci.sql").read_text() == outcome.output
    options = ("reader", "--dialect", "mysql", "--database", "a_b", "--partial-revokes")
    assert "GRANT SELECT ON a_b.* TO" in run("grants", *options).output
    assert run("grants", "reader", "--dialect", "sqlite").exit_code == 2
    wrong = run("grants", "reader", "--dialect", "mysql", "--user", "a\nb")
    assert wrong.exit_code == 1
    assert "The user is 'a\\nb'" in wrong.output


def test_output_that_cannot_be_written_is_an_error(tmp_path):
    """The file is named, with the reason."""
    outcome = run("schema", "--dialect", "sqlite", "--output", tmp_path / "no" / "x")
    assert outcome.exit_code == 1
    assert "cannot be written: No such file" in outcome.stderr


@pytest.mark.parametrize("dialect", migrations.DIALECTS)
def test_schema_is_the_same_each_time(dialect):
    """Indices come in one order, though the code's tables know none."""
    script = migrations.script(dialect)
    assert script == migrations.script(dialect)
    found = re.findall(r"INDEX (ix_registry_event_\w+)", script)
    assert found == sorted(found)
    assert len(found) == 4


@pytest.mark.parametrize("part", diagram.PARTS)
def test_picture_shows_every_table_and_column_apart(part):
    """Each table is drawn once with all columns, and none covers another one."""
    root = ET.fromstring(diagram.svg(part))
    space = "{http://www.w3.org/2000/svg}"
    boxes = []
    for group in root.iter(f"{space}g"):
        box = group.find(f"{space}rect[@class='table']")
        if box is not None:
            x, y = map(float, re.findall(r"-?[\d.]+", group.get("transform")))
            boxes.append((x, y, float(box.get("width")), float(box.get("height"))))
    for n, (x, y, width, height) in enumerate(boxes):
        for left, top, other_width, other_height in boxes[n + 1 :]:
            beside = x + width <= left or left + other_width <= x
            assert beside or y + height <= top or top + other_height <= y
    texts = [item.text for item in root.iter(f"{space}text")]
    if part == "registry":
        assert len(boxes) == len(metadata.tables)
        for table in metadata.tables.values():
            assert table.name in texts
            assert {column.name for column in table.columns} <= set(texts)


def test_mermaid_tells_how_many_and_whether_at_all():
    """One to many, one to at most one, and keys that may be NULL differ."""
    text = diagram.mermaid()
    assert "model ||--o{ deployment : model_id" in text
    assert "deployment ||--o| deployment_lock : deployment_id" in text
    assert "deployment |o--o{ flow : deployment_id" in text
