"""What a filter may say, and what is said of one that cannot be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from prefect_lume.errors import InvalidInputError
from prefect_lume.registry import ModelDBService, search
from prefect_lume.storage.sql import get_engine


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    """A registry in memory with one deployment."""
    engine = get_engine("sqlite://", execution_options={"purpose": "filters"})
    registry = ModelDBService(engine)
    registry.apply_schema()
    model = registry.store_model(
        author="a", laboratory="slac", facility="f", beampath="b", description="d"
    )
    registry.store_deployment(
        model_id=model,
        version="1",
        source="s",
        sha256="ab" * 32,
        package_import_name="x",
        tags={"stage": "test"},
        aliases=["candidate"],
    )
    with engine.connect() as opened:
        yield opened
    engine.dispose()


FITS = [
    "",
    "  ",
    "laboratory = 'slac'",
    "laboratory='slac' and not retired and is_live",
    "tags.stage = 'test' OR alias = 'none'",
    "NOT (alias = 'none')",
    "tags.\"stage\" in ('x', 'test')",
    "version LIKE '%' AND version BETWEEN '0' AND '2'",
    "text contains 'SLAC'",
    "deploy_date >= '2026-01-01' AND deploy_date < '2200-01-01T00:00:00+02:00'",
    "parent_deployment_id IS NULL",
    "alias IS NOT NULL AND tags.absent IS NULL",
]


@pytest.mark.parametrize("where", FITS)
def test_filters_that_fit(connection: Connection, where: str) -> None:
    """Keywords in any case, quotes of both kinds, dates with zones, and nothing."""
    assert search.count_deployments(connection, where) == 1


REFUSED = {
    "labratory = 'slac'": "Did you mean 'laboratory'",
    "laboratory = slac": "slac",
    "laboratory = 'slac": "slac",
    "laboratory =": "ends too early",
    "version > 3": "version",
    "is_live = 'yes'": "is_live",
    "deploy_date > '2026-01-01T00:00:00'": "offset",
    "deploy_date > 'yesterday'": "deploy_date",
    "a = 'b'; DROP TABLE model": "character",
    "lock = 'x'": "lock",
    "search_text = 'x'": "search_text",
    "(" * 200 + "is_live" + ")" * 200: "50 parentheses",
    "version = '" + "x" * 20_000 + "'": "10,000",
}


@pytest.mark.parametrize("where", REFUSED, ids=lambda where: where[:30])
def test_filters_that_cannot_be_read(connection: Connection, where: str) -> None:
    """The message says what is wrong, and stays bounded."""
    with pytest.raises(InvalidInputError) as caught:
        search.count_deployments(connection, where)
    assert REFUSED[where] in str(caught.value)
    assert len(str(caught.value)) < 2_000


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_refused(connection: Connection, where: str) -> None:
    """Whatever somebody writes, it is answered or refused by us, never by a driver."""
    with contextlib.suppress(InvalidInputError):
        assert search.count_deployments(connection, where) in {0, 1}


@given(st.text(max_size=60))
def test_any_text_may_be_quoted(connection: Connection, value: str) -> None:
    """A quoted text is only a text, whatever is in it; null characters are refused."""
    asked = f"version = {search.quoted(value)}"
    if "\0" in value:
        with pytest.raises(InvalidInputError, match="null"):
            search.count_deployments(connection, asked)
    else:
        assert search.count_deployments(connection, asked) == (value == "1")


@pytest.mark.parametrize("token", ["", "x", "e30", "🜚", "a" * 5_000])
def test_damaged_tokens_are_refused(connection: Connection, token: str) -> None:
    """A page token is taken as it was given, or not at all."""
    with pytest.raises(InvalidInputError, match="token"):
        search.deployments(connection, "", page_token=token)


@pytest.mark.parametrize("order", ["nothing", "version SIDEWAYS", "text", "alias"])
def test_orders_that_cannot_be_read(connection: Connection, order: str) -> None:
    """Only columns are sorted by; the message says so."""
    with pytest.raises(InvalidInputError):
        search.deployments(connection, order_by=order)
