"""Search in the registry: filters in a language like SQL's, orders and pages.

``docs/registry-search.md`` tells the language. Each call sends one statement, and gives
ids; the records are the registry service's.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from prefect_lume.registry.search.finding import Found, count, search


def deployments(
    connection: Connection,
    where: str = "",
    *,
    order_by: str | Sequence[str] = "deployment_id",
    limit: int = 100,
    page_token: str | None = None,
) -> Found:
    """Return the ids of the deployments that a filter fits, a page of them.

    Args:
        connection: A connection to the registry's database.
        where: The filter, for example ``laboratory = 'slac' AND is_live``. Empty: all.
        order_by: Columns, each with ``ASC`` or ``DESC`` if need be.
        limit: The most ids on the page, 10,000 at most.
        page_token: ``next_page_token`` of the page before.

    Raises:
        InvalidInputError: The filter or order cannot be read (the message points at
            the place), or the token is damaged or of another search.
    """
    return search(connection, "deployment", where, order_by, limit, page_token)


def models(
    connection: Connection,
    where: str = "",
    *,
    order_by: str | Sequence[str] = "model_id",
    limit: int = 100,
    page_token: str | None = None,
) -> Found:
    """Return the ids of the models that a filter fits, a page of them.

    Args:
        connection: A connection to the registry's database.
        where: The filter, for example ``is_live AND tags.team = 'injector'``.
        order_by: Columns, each with ``ASC`` or ``DESC`` if need be.
        limit: The most ids on the page, 10,000 at most.
        page_token: ``next_page_token`` of the page before.

    Raises:
        InvalidInputError: As :func:`deployments`.
    """
    return search(connection, "model", where, order_by, limit, page_token)


def count_deployments(connection: Connection, where: str = "") -> int:
    """Return how many deployments a filter fits.

    Raises:
        InvalidInputError: The filter cannot be read.
    """
    return count(connection, "deployment", where)


def count_models(connection: Connection, where: str = "") -> int:
    """Return how many models a filter fits.

    Raises:
        InvalidInputError: The filter cannot be read.
    """
    return count(connection, "model", where)


def quoted(value: str) -> str:
    """Return a text as a filter has it, whatever is in it.

    Example:
        >>> quoted("the lab's")
        "'the lab''s'"
    """
    return "'" + value.replace("'", "''") + "'"


__all__ = [
    "Found",
    "count_deployments",
    "count_models",
    "deployments",
    "models",
    "quoted",
]
