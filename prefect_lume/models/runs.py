"""What a model does: it runs, and finds the results of its runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from prefect_lume.models.base import ModelBase

if TYPE_CHECKING:
    import pandas as pd
    from prefect.client.schemas.objects import FlowRun

    from prefect_lume.models.finding import Finder
    from prefect_lume.models.running import Ran
    from prefect_lume.registry import DeploymentRecord
    from prefect_lume.results import Result

#: Where a flow runs: in this process, or as a Prefect deployment.
RunOn: TypeAlias = Literal["process", "deployment"]


class RunCalls(ModelBase):
    """The calls of a model that are about its runs and their results."""

    def run(
        self,
        parameters: Mapping[str, Any] | None = None,
        *,
        flow_name: str | None = None,
        run_on: RunOn = "process",
        prefect_deployment: str | None = None,
        wait: bool = True,
        timeout: float | None = None,
    ) -> FlowRun:
        """Run a flow of the chosen deployment (see :meth:`load_deployment`).

        The run is linked to the deployment: what it stores and what is recorded of it
        names the deployment's number.

        Args:
            parameters: The flow's parameters, by name.
            flow_name: Which flow, if the deployment offers several.
            run_on: ``"process"``: here, with the package of the deployment.
                ``"deployment"``: as a Prefect deployment, on its work pool.
            prefect_deployment: The Prefect deployment, ``flow/deployment``, which
                includes the two before. Left out, it is ``<flow>/<project>``, as
                ``FlowOfFlows.deploy_subflows`` names it.
            wait: Whether to wait for the end of a Prefect deployment's run.
            timeout: Seconds to wait for it; then the run is returned as it is. Left
                out: until it has ended.

        Returns:
            Prefect's flow run, whatever its state: a run that failed raises nothing.

        Raises:
            NotFoundError: There is no such flow or Prefect deployment, or no live
                deployment.
            InvalidInputError: The parameters do not fit, several flows are offered, or
                the arguments do not go together.
            ConflictError: The Prefect deployment runs another deployment.
            PackageError: The package cannot be imported.
            IntegrityError: Its source is not the one that was registered.
            ConnectionFailedError: Prefect's server cannot be used.
        """
        seconds = timeout if wait else 0
        return self._run(
            parameters, None, flow_name, run_on, prefect_deployment, seconds
        ).run

    def run_and_return(
        self,
        parameters: Mapping[str, Any] | None = None,
        *,
        task_name: str | None = None,
        flow_name: str | None = None,
        run_on: RunOn = "process",
        prefect_deployment: str | None = None,
        timeout: float | None = None,
    ) -> Any:
        """Run a flow as :meth:`run` does, and return what it, or a task, returned.

        Args:
            parameters: The flow's parameters, by name.
            task_name: The task whose result is wanted; left out, the flow's own.
            flow_name: Which flow, if the deployment offers several.
            run_on: ``"process"`` or ``"deployment"``.
            prefect_deployment: The Prefect deployment that runs it. If it is not one
                of the composer's, its flow has to persist what is wanted.
            timeout: Seconds to wait for a Prefect deployment.

        Returns:
            The result; of a task that ran several times the list of its results, in
            the order in which the flow called it.

        Raises:
            FlowRunError: The run did not complete.
            NotFoundError: No such task completed; the message lists those that ran.
            DecodingError: The result was not kept in a form that can be read.
        """
        return self._run(
            parameters, task_name, flow_name, run_on, prefect_deployment, timeout
        ).value(task_name)

    def _run(
        self,
        parameters: Mapping[str, Any] | None,
        task_name: str | None,
        flow_name: str | None,
        run_on: RunOn,
        prefect_deployment: str | None,
        timeout: float | None,
    ) -> Ran:
        from prefect_lume.models import deployed, running

        here = running.is_here(run_on, prefect_deployment, timeout)
        deployment = self.deployment
        name = running.flow_of(deployment, flow_name, prefect_deployment)
        order = running.Order(
            deployment=deployment,
            flow_name=name,
            project_name=self._project_of(deployment, name),
            parameters=parameters or {},
            kept_tasks=frozenset() if task_name is None else frozenset([task_name]),
        )
        if here:
            return running.run_in_process(self._context, order)
        return deployed.run_elsewhere(order, prefect_deployment, timeout)

    def _project_of(self, deployment: DeploymentRecord, flow_name: str) -> str:
        """Return the project of a flow, be it served by another deployment now."""
        others = () if deployment.flows else self.deployments
        for item in (deployment, *others):
            for flow in item.flows:
                if flow.flow_name == flow_name:
                    return flow.project_name
        return ""

    def get_results(
        self,
        query: Mapping[str, Any] | None = None,
        *,
        all_deployments: bool = False,
        project_name: str | None = None,
        **options: Any,
    ) -> list[Result]:
        """Return results that the chosen deployment made, by one query.

        Args:
            query: Conditions on the documents, as for ``results.find``.
            all_deployments: Whether to return those of all deployments of the model,
                not only of the chosen one (see :meth:`load_deployment`).
            project_name: The project they were stored under. Left out: the projects of
                the flows that the deployment serves, also by their earlier names, with
                one query for each name that has results.
            **options: ``sort``, ``skip``, ``limit``, ``projection`` and what else
                ``results.find`` takes.

        Returns:
            The results, oldest first unless ``sort`` says otherwise.

        Raises:
            NotFoundError: No deployment is chosen, and none is live; or the named
                project has no results.
            InvalidInputError: The project cannot be told, or several are to be sorted.
            QueryError: The query holds what the query language has not.
        """
        finder, asked = self._asked(query, all_deployments, project_name)
        return finder.find(asked, **options)

    def get_results_df(
        self,
        query: Mapping[str, Any] | None = None,
        *,
        all_deployments: bool = False,
        project_name: str | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Return the same results as :meth:`get_results` as a table, by one query.

        Args:
            query: Conditions on the documents.
            all_deployments: Whether to return those of all deployments of the model.
            project_name: The project they were stored under.
            **options: ``columns`` and what else ``results.load_dataframe`` takes.

        Returns:
            A pandas DataFrame: where each result comes from, then inputs and outputs.

        Raises:
            NotFoundError: No deployment is chosen, and none is live; or the named
                project has no results.
            InvalidInputError: The project cannot be told, or several are to be sorted.
            MissingDependencyError: pandas is not installed.
        """
        finder, asked = self._asked(query, all_deployments, project_name)
        return finder.load_dataframe(asked, **options)

    def _asked(
        self,
        query: Mapping[str, Any] | None,
        all_deployments: bool,
        project_name: str | None,
    ) -> tuple[Finder, dict[str, Any]]:
        from prefect_lume.models import finding

        chosen = self.deployments if all_deployments else (self.deployment,)
        places = (
            finding.projects_of(self._registry, self.model_id, chosen)
            if project_name is None
            else [project_name]
        )
        told = project_name is not None
        finder = finding.Finder(self._context, places, told=told)
        return finder, finding.condition(chosen, query)
