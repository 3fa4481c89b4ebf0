"""Search: filters, orders and pages over models and deployments."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from prefect_lume.registry import repository, search
from prefect_lume.registry.records import DeploymentPage, ModelPage
from prefect_lume.registry.service.base import ServiceBase


class SearchCalls(ServiceBase):
    """The calls of the service that look among many.

    The language of filters is told in ``docs/registry-search.md``. Each search is two
    statements, however many rows there are (on SQLite one more where a filter asks for
    tags), and a count is one less.
    """

    def search_deployments(
        self,
        where: str = "",
        *,
        order_by: str | Sequence[str] = "deployment_id",
        limit: int = 100,
        page_token: str | None = None,
    ) -> DeploymentPage:
        """Return the deployments that a filter fits, page by page.

        Args:
            where: The filter, for example ``laboratory = 'slac' AND (tags.stage =
                'beamtime' OR alias = 'candidate') AND deploy_date >= '2026-01-01'``.
                Empty: all.
            order_by: Columns, each with ``ASC`` or ``DESC`` if need be.
            limit: The most deployments on a page, 10,000 at most.
            page_token: ``next_page_token`` of the page before, with the same filter
                and order.

        Returns:
            The page; its deployments come without their locks.

        Raises:
            InvalidInputError: The filter or order cannot be read (the message points
                at the place), or the token is damaged or of another search.
        """

        def work(connection: Connection) -> DeploymentPage:
            found = search.deployments(
                connection,
                where,
                order_by=order_by,
                limit=limit,
                page_token=page_token,
            )
            items = repository.deployments_by_ids(connection, found.ids)
            return DeploymentPage(items, found.next_page_token)

        return self._read(work)

    def search_models(
        self,
        where: str = "",
        *,
        order_by: str | Sequence[str] = "model_id",
        limit: int = 100,
        page_token: str | None = None,
    ) -> ModelPage:
        """Return the models that a filter fits, page by page.

        Args:
            where: The filter, for example ``is_live AND tags.team = 'injector'``.
                Empty: all.
            order_by: Columns, each with ``ASC`` or ``DESC`` if need be.
            limit: The most models on a page, 10,000 at most.
            page_token: ``next_page_token`` of the page before, with the same filter
                and order.

        Returns:
            The page.

        Raises:
            InvalidInputError: As :meth:`search_deployments`.
        """

        def work(connection: Connection) -> ModelPage:
            found = search.models(
                connection,
                where,
                order_by=order_by,
                limit=limit,
                page_token=page_token,
            )
            items = repository.models_by_ids(connection, found.ids)
            return ModelPage(items, found.next_page_token)

        return self._read(work)

    def count_deployments(self, where: str = "") -> int:
        """Return how many deployments a filter fits.

        Raises:
            InvalidInputError: The filter cannot be read.
        """
        return self._read(lambda c: search.count_deployments(c, where))

    def count_models(self, where: str = "") -> int:
        """Return how many models a filter fits.

        Raises:
            InvalidInputError: The filter cannot be read.
        """
        return self._read(lambda c: search.count_models(c, where))
