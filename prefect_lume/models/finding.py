"""Finds the results that deployments of a model made."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from prefect_lume._optional import require
from prefect_lume.config import Context
from prefect_lume.errors import InvalidInputError, NotFoundError, name_list
from prefect_lume.results.frames import load_dataframe
from prefect_lume.results.query import check_page

if TYPE_CHECKING:
    import pandas as pd

    from prefect_lume.registry import DeploymentRecord, ModelDBService
    from prefect_lume.results import Result


def condition(
    chosen: Sequence[DeploymentRecord], query: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return the query for results that some deployments made, and that match."""
    numbers = [deployment.deployment_id for deployment in chosen]
    mine: dict[str, Any] = {"deployment_id": {"$in": numbers}}
    return {"$and": [mine, dict(query)]} if query else mine


def projects_of(
    registry: ModelDBService, model_id: int, chosen: Sequence[DeploymentRecord]
) -> list[str]:
    """Return the names under which results of deployments are kept.

    These are the projects of the flows that they serve, or else of those that the
    model's other deployments serve; also by the names that a project had before.

    Raises:
        InvalidInputError: No flow of the model is registered.
    """
    served = {flow.project_name for item in chosen for flow in item.flows}
    if not served:
        others = registry.get_deployments(model_id=model_id)
        served = {flow.project_name for item in others for flow in item.flows}
    if not served:
        raise InvalidInputError(
            f"No flow of model {model_id} is registered, so which project its results "
            f"are in cannot be told: say it by project_name."
        )
    names = dict.fromkeys(sorted(served))
    for name in list(names):
        renamed = registry.get_history(project_name=name, kind="project.renamed")
        names |= dict.fromkeys(str(event.before["project_name"]) for event in renamed)
    return list(names)


class Finder:
    """Finds results in one project, or in several.

    Args:
        context: The services.
        places: The projects.
        told: Whether the caller named the project, which then must have results.
    """

    def __init__(self, context: Context, places: Sequence[str], *, told: bool) -> None:
        self._service = context.results_db_service()
        self._places, self._told = list(places), told
        if len(self._places) > 1:
            # Most of the names that a project had are empty of results.
            known = set(self._service.projects())
            self._places = [place for place in places if place in known]

    def find(
        self,
        query: Mapping[str, Any],
        *,
        sort: Any = None,
        skip: int = 0,
        limit: int | None = None,
        **options: Any,
    ) -> list[Result]:
        """Return results, by ``date_modified`` unless one project is sorted otherwise.

        Raises:
            InvalidInputError: Several projects are to be sorted.
            NotFoundError: The named project has no results.
        """
        if len(self._places) == 1:
            options |= {"sort": sort, "skip": skip}
            return list(self._find(self._places[0], query, limit, options))
        check_page(skip, limit)
        self._refuse(sort)
        most = None if limit is None else skip + limit
        found = [self._find(place, query, most, options) for place in self._places]
        merged = heapq.merge(
            *found, key=lambda item: (item.date_modified, item.unique_hash)
        )
        return list(islice(merged, skip, most))

    def _find(
        self,
        place: str,
        query: Mapping[str, Any],
        limit: int | None,
        options: dict[str, Any],
    ) -> Iterator[Result]:
        try:
            return self._service.find(place, query, limit=limit, **options)
        except NotFoundError:
            if self._told:
                raise
            return iter(())

    def load_dataframe(
        self,
        query: Mapping[str, Any],
        *,
        sort: Any = None,
        limit: int | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Return results as a table, in the order of :meth:`find`.

        Raises:
            InvalidInputError: Several projects are to be sorted.
            NotFoundError: The named project has no results.
            MissingDependencyError: pandas is not installed.
        """
        if len(self._places) > 1:
            self._refuse(sort)
        frames = []
        for place in self._places:
            try:
                frame = self._service.load_dataframe(
                    place, query, sort=sort, limit=limit, **options
                )
            except NotFoundError:
                if self._told:
                    raise
            else:
                frames.append(frame)
        if not frames:
            return load_dataframe((), options.get("columns"), self._no_blob)
        return frames[0] if len(frames) == 1 else _joined(frames, limit)

    @staticmethod
    def _no_blob(sha256: str) -> bytes:
        raise NotFoundError("blob", sha256)

    def _refuse(self, sort: Any) -> None:
        if sort is not None:
            raise InvalidInputError(
                f"The results are in several projects ({name_list(self._places)}), "
                f"which come by date_modified: to sort them, say by project_name which "
                f"one."
            )


def _joined(frames: list[pd.DataFrame], limit: int | None) -> pd.DataFrame:
    pandas = require("pandas", "A table of results")
    whole: pd.DataFrame = pandas.concat(
        [frame for frame in frames if len(frame)] or frames[:1], ignore_index=True
    )
    whole = whole.sort_values(
        ["date_modified", "unique_hash"], ignore_index=True, kind="stable"
    )
    return whole if limit is None else whole.head(limit)
