"""Each test server that is there answers, and hands out databases of its own."""

from __future__ import annotations

import urllib.request

import pytest
from pymongo import MongoClient
from sqlalchemy import create_engine, make_url, text


@pytest.mark.parametrize(
    ("fixture", "query", "expected"),
    [
        pytest.param(
            "mysql_url",
            "SELECT plugin FROM mysql.user"
            " WHERE concat(user, '@', host) = current_user()",
            "caching_sha2_password",
            marks=pytest.mark.service("mysql"),
            id="mysql",
        ),
        pytest.param(
            "mariadb_url",
            "SELECT version() LIKE '%MariaDB%'",
            1,
            marks=pytest.mark.service("mariadb"),
            id="mariadb",
        ),
        pytest.param(
            "postgresql_url",
            "SELECT split_part(version(), ' ', 1)",
            "PostgreSQL",
            marks=pytest.mark.service("postgresql"),
            id="postgresql",
        ),
    ],
)
def test_sql_server_gives_an_empty_database_of_its_kind(
    request: pytest.FixtureRequest, fixture: str, query: str, expected: object
) -> None:
    """A SQL server is the kind it is named for, and the test's database is empty."""
    url = request.getfixturevalue(fixture)
    schema = "public" if fixture == "postgresql_url" else make_url(url).database
    tables = text(
        "SELECT count(*) FROM information_schema.tables WHERE table_schema = :schema"
    )
    engine = create_engine(url)
    with engine.connect() as connection:
        assert connection.execute(text(query)).scalar_one() == expected
        assert connection.execute(tables, {"schema": schema}).scalar_one() == 0
    engine.dispose()


def test_mongodb_server_stores_and_finds(mongodb_url: str) -> None:
    """A document that was stored in the test's own database is found there."""
    with MongoClient(mongodb_url) as client:
        things = client.get_default_database()["things"]
        assert things.count_documents({}) == 0
        things.insert_one({"_id": "a", "value": [1, 2.5, "é"]})
        assert things.find_one({"value": 2.5})["_id"] == "a"


def test_prefect_server_runs_on_postgresql(prefect_api_url: str) -> None:
    """The Prefect server is ready, which it is only with its database."""
    with urllib.request.urlopen(f"{prefect_api_url}/ready", timeout=30) as reply:
        assert reply.status == 200


def test_flow_reports_to_the_prefect_server(prefect_server: str) -> None:
    """A flow that runs in the test shows up on the server that the fixture names."""
    from prefect import flow
    from prefect.client.orchestration import get_client

    @flow
    def double(x: int) -> int:
        return 2 * x

    state = double(4, return_state=True)
    with get_client(sync_client=True) as client:
        assert str(client.api_url).rstrip("/") == prefect_server
        run = client.read_flow_run(state.state_details.flow_run_id)
    assert run.state is not None
    assert run.state.is_completed()
