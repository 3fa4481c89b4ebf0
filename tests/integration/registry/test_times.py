"""Times: exact instants, whatever zone the process, the server or the session is in."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, event, update
from sqlalchemy.engine.interfaces import DBAPIConnection

from prefect_lume.errors import InvalidInputError
from prefect_lume.registry import ModelDBService
from prefect_lume.registry.tables import DEPLOYMENTS, MODELS
from prefect_lume.storage.sql import get_engine

DATABASES = [
    "sqlite",
    *(
        pytest.param(name, marks=pytest.mark.service(name))
        for name in ("mysql", "mariadb", "postgresql")
    ),
]
NEW_YORK = ZoneInfo("America/New_York")
#: Around the hour that New York has twice, and the one that it does not have.
INSTANTS = [
    datetime(2026, 11, 1, 5, 30, 0, 123456, UTC),
    datetime(2026, 11, 1, 6, 30, 0, 123456, UTC),
    datetime(2026, 3, 8, 6, 59, 59, 999999, UTC),
    datetime(2026, 3, 8, 7, 0, 0, 0, UTC),
    datetime(2026, 3, 8, 2, 30, 0, 1, UTC),
    datetime(1970, 1, 1, 0, 0, 0, 1, UTC),
    datetime(2099, 12, 31, 23, 59, 59, 999999, UTC),
]
SCRIPT = """
import sys
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo
from prefect_lume.registry import ModelDBService
from prefect_lume.storage.sql import get_engine

registry = ModelDBService(get_engine(sys.stdin.read()), actor="elsewhere")
number = registry.store_model(
    author="elsewhere", laboratory="l", facility="f", beampath="b", description="d"
)
model = registry.get_model(model_id=number)
print(model.created.isoformat())
# The hour that this zone has twice is told apart by its fold.
new_york = ZoneInfo("America/New_York")
for fold in (0, 1):
    asked = datetime(2026, 11, 1, 1, 30, 0, 123456, new_york, fold=fold)
    found = registry.get_deployment(deploy_date=asked)
    print(found.version, found.deploy_date.isoformat())
print(registry.get_history(model_id=number)[0].happened.isoformat())
"""


def set_dates(engine: Engine, numbers: list[int], model: int) -> None:
    """Give stored deployments the instants, as the service itself stores them."""
    with engine.begin() as connection:
        for number, instant in zip(numbers, INSTANTS, strict=True):
            connection.execute(
                update(DEPLOYMENTS)
                .where(DEPLOYMENTS.c.deployment_id == number)
                .values(deploy_date=instant)
            )
        connection.execute(
            update(MODELS).where(MODELS.c.model_id == model).values(created=INSTANTS[0])
        )


@pytest.fixture
def dated(registry: ModelDBService, engine: Engine, lab: Any) -> ModelDBService:
    """A registry with a deployment of each instant; versions count from 0."""
    model = lab.add_model(registry)
    numbers = [
        lab.add_deployment(registry, model, str(n)) for n in range(len(INSTANTS))
    ]
    set_dates(engine, numbers, model)
    return registry


def in_zone(engine: Engine, zone: str, offset: str) -> Engine:
    """Return an engine whose sessions are set to another zone."""
    other = get_engine(engine.url, pool_logging_name=f"zone {zone}")

    def set_zone(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        if other.dialect.name == "postgresql":
            cursor.execute(f"SET TIME ZONE '{zone}'")
            connection.commit()
        elif other.dialect.name != "sqlite":
            cursor.execute(f"SET SESSION time_zone = '{offset}'")
        cursor.close()

    event.listen(other, "connect", set_zone)
    return other


@pytest.mark.parametrize(
    ("zone", "offset"),
    [("America/New_York", "-05:00"), ("Asia/Kathmandu", "+05:45"), ("UTC", "+00:00")],
)
@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_instants_come_back_in_any_session_zone(
    dated: ModelDBService, engine: Engine, lab: Any, zone: str, offset: str
) -> None:
    """A session's zone changes no instant; another zone's time finds it exactly."""
    other = in_zone(engine, zone, offset)
    there = ModelDBService(other)
    assert [d.deploy_date for d in there.get_deployments()] == INSTANTS
    assert {d.deploy_date.tzinfo for d in there.get_deployments()} == {UTC}
    for n, instant in enumerate(INSTANTS):
        for asked in (
            instant,
            instant.astimezone(NEW_YORK),
            instant.astimezone(timezone(timedelta(hours=5, minutes=45))),
        ):
            assert there.get_deployment(deploy_date=asked).version == str(n)
            text = asked.isoformat()
            assert there.count_deployments(f"deploy_date = '{text}'") == 1
        # One microsecond on it is another instant.
        close = instant + timedelta(microseconds=1)
        same = [i for i in INSTANTS if i == close]
        found = there.get_deployments(deploy_date=close)
        assert [d.deploy_date for d in found] == same
    assert there.get_model(created=INSTANTS[0]).created == INSTANTS[0]
    before = datetime.now(UTC)
    number = lab.add_deployment(there, there.get_models()[0].model_id, "new")
    stored = dated.get_deployment(deployment_id=number)
    assert before <= stored.deploy_date <= datetime.now(UTC)
    assert before <= dated.get_history(limit=1)[0].happened <= datetime.now(UTC)
    assert there.get_history() == dated.get_history()
    other.dispose()


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Chatham"])
@pytest.mark.parametrize("engine", DATABASES, indirect=True)
def test_process_in_another_zone_sees_the_same_instants(
    dated: ModelDBService, engine: Engine, url: str, zone: str
) -> None:
    """TZ of a process changes nothing: what it stores and finds is the same UTC."""
    before = datetime.now(UTC)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        check=True,
        input=url,
        env={**os.environ, "TZ": zone},
        capture_output=True,
        text=True,
        timeout=120,
    )
    created, first, second, happened = done.stdout.splitlines()
    model = dated.get_model(author="elsewhere")
    assert created == model.created.isoformat()
    assert before <= model.created <= datetime.now(UTC)
    assert datetime.fromisoformat(happened) == dated.get_history()[0].happened
    assert first == f"0 {INSTANTS[0].isoformat()}"
    assert second == f"1 {INSTANTS[1].isoformat()}"


@pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
def test_time_without_a_zone_is_refused(dated: ModelDBService) -> None:
    """A time without a zone could mean any instant, and is refused by name."""
    naive = INSTANTS[0].replace(tzinfo=None)
    for ask in (
        lambda: dated.get_deployment(deploy_date=naive),
        lambda: dated.get_model(created=naive),
        lambda: dated.get_flows(created=naive),
        lambda: dated.get_deployments(retired=naive),
    ):
        with pytest.raises(InvalidInputError, match="with a time zone"):
            ask()
