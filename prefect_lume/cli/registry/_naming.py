"""How models, deployments, projects and flows are named on the command line."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from prefect_lume.errors import (
    AmbiguousError,
    InvalidInputError,
    LumeError,
    NotFoundError,
    clip,
    name_list,
)
from prefect_lume.registry import (
    DeploymentRecord,
    FlowRecord,
    ModelDBService,
    ModelRecord,
)
from prefect_lume.registry.search import quoted

#: The most completions that are offered.
_MOST = 50
#: So many signs of a name are tried as the one after the model.
_SIGNS = 20


def find_model(registry: ModelDBService, name: str) -> ModelRecord:
    """Return the model of that number or description.

    Raises:
        NotFoundError: There is none.
        AmbiguousError: Several models are described so.
    """
    if name.isascii() and name.isdigit():
        return registry.get_model(model_id=int(name))
    found = registry.get_models(description=name)
    if len(found) > 1:
        numbers = name_list((str(model.model_id) for model in found), 50)
        raise AmbiguousError(
            f"{len(found)} models are described as {clip(name, 60)!r}: say which by "
            f"its number, one of {numbers}."
        )
    return found[0] if found else registry.get_model(description=name)


def find_deployment(registry: ModelDBService, name: str) -> DeploymentRecord:
    """Return the deployment of that number, ``MODEL/VERSION`` or ``MODEL@ALIAS``.

    Raises:
        NotFoundError: There is none.
        AmbiguousError: Several models are described so.
        InvalidInputError: The name has none of these forms.
    """
    if name.isascii() and name.isdigit():
        return registry.get_deployment(deployment_id=int(name))
    problem: LumeError | None = None
    # A description or version may hold either sign, too: the last one is tried first.
    for place in [at for at, sign in enumerate(name) if sign in "@/"][:-_SIGNS:-1]:
        get = _by_alias if name[place] == "@" else _by_version
        model, rest = name[:place], name[place + 1 :]
        if not model or not rest:
            continue
        try:
            number = find_model(registry, model).model_id
        except NotFoundError as error:
            problem = problem or error
            continue
        try:
            return get(registry, number, rest)
        except NotFoundError as error:
            # It says more than that there is no model of some other part of the name.
            problem = error
    if problem is not None:
        raise problem
    raise InvalidInputError(
        f"{clip(repr(name), 60)} names no deployment. Give its number, MODEL/VERSION, "
        f"MODEL@ALIAS, MODEL@live or MODEL@latest, where MODEL is a model's number or "
        f"description."
    )


def _by_alias(registry: ModelDBService, model: int, alias: str) -> DeploymentRecord:
    return registry.get_deployment_by_alias(model, alias)


def _by_version(registry: ModelDBService, model: int, version: str) -> DeploymentRecord:
    return registry.get_deployment(model_id=model, version=version)


def find_flow(registry: ModelDBService, name: str) -> FlowRecord:
    """Return the flow of that id, name or ``PROJECT/NAME``.

    Raises:
        NotFoundError: There is none.
        AmbiguousError: Several projects have one of that name.
    """
    by_id = registry.get_flows(flow_id=name)
    if by_id:
        return by_id[0]
    project, found, flow_name = name.rpartition("/")
    if found and registry.get_flows(project_name=project, flow_name=flow_name):
        return registry.get_flow(project_name=project, flow_name=flow_name)
    return registry.get_flow(flow_name=name)


def open_registry(services: str | None) -> ModelDBService:
    """Return the registry of a Block, or of the default services."""
    from prefect_lume.cli._progress import quiet_prefect
    from prefect_lume.config import open_context

    with quiet_prefect():
        return open_context(services).model_db_service()


def _open_quickly(services: str | None) -> ModelDBService | None:
    """Return the registry, for completion: the embedded one without Prefect.

    Importing Prefect takes longer than all the rest. ``None``: there is none yet.
    """
    from prefect_lume.settings import LumeSettings

    settings = LumeSettings.load()
    if services or settings.services:
        return open_registry(services)
    from prefect_lume.storage.sql import get_engine

    prefect = Path(os.environ.get("PREFECT_HOME", "~/.prefect"))
    home = settings.home or prefect / "lume"
    file = home.expanduser().absolute() / "lume.db"
    return ModelDBService(get_engine(f"sqlite:///{file}")) if file.exists() else None


_Complete = Callable[[ModelDBService, str], Iterable[CompletionItem]]


def _completing(complete: _Complete) -> Callable[..., list[CompletionItem]]:
    """Let a shell complete a name. What fails there offers nothing."""

    @functools.wraps(complete)
    def shell_complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        del param
        try:
            registry = _open_quickly(ctx.params.get("services"))
            return list(complete(registry, incomplete)) if registry else []
        except LumeError:
            # A message would end up in the line that somebody is typing.
            return []

    return shell_complete


def _like(field: str, beginning: str) -> str:
    escaped = beginning.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{field} LIKE {quoted(escaped + '%')}"


def _models(registry: ModelDBService, beginning: str) -> Iterable[CompletionItem]:
    page = registry.search_models(_like("description", beginning), limit=_MOST)
    for model in page.items:
        about = f"model {model.model_id}, {model.laboratory} {model.facility}"
        yield CompletionItem(model.description, help=about)


def _deployments(registry: ModelDBService, beginning: str) -> Iterable[CompletionItem]:
    for sign in "@/":
        name, found, rest = beginning.rpartition(sign)
        if not found:
            continue
        try:
            model = find_model(registry, name)
        except LumeError:
            continue
        if sign == "@":
            asked = f"model_id = {model.model_id} AND alias IS NOT NULL"
            page = registry.search_deployments(asked, limit=_MOST)
            aliases = {a for item in page.items for a in item.aliases}
            for alias in sorted(aliases | {"live", "latest"}):
                if alias.startswith(rest):
                    yield CompletionItem(f"{name}@{alias}")
        else:
            asked = f"model_id = {model.model_id} AND {_like('version', rest)}"
            order = "deployment_id DESC"
            page = registry.search_deployments(asked, order_by=order, limit=_MOST)
            for item in page.items:
                about = "live" if item.is_live else ""
                yield CompletionItem(f"{name}/{item.version}", help=about)
        return
    for offered in _models(registry, beginning):
        yield CompletionItem(f"{offered.value}/", help=offered.help)
        yield CompletionItem(f"{offered.value}@live", help=offered.help)


def _projects(registry: ModelDBService, beginning: str) -> Iterable[CompletionItem]:
    for project in registry.get_projects():
        if project.project_name.startswith(beginning):
            yield CompletionItem(project.project_name, help=project.description)


def _flows(registry: ModelDBService, beginning: str) -> Iterable[CompletionItem]:
    for flow in registry.get_flows():
        name = f"{flow.project_name}/{flow.flow_name}"
        if name.startswith(beginning):
            yield CompletionItem(name)


def model_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument ``MODEL``."""
    return click.argument("model", shell_complete=_completing(_models))(command)


def model_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--model MODEL``."""
    return click.option(
        "--model",
        metavar="MODEL",
        shell_complete=_completing(_models),
        help="Only this model's: its number or description.",
    )(command)


def deployment_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument ``DEPLOYMENT``."""
    complete = _completing(_deployments)
    return click.argument("deployment", shell_complete=complete)(command)


def project_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument ``PROJECT``."""
    return click.argument("project", shell_complete=_completing(_projects))(command)


def project_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--project PROJECT``."""
    return click.option(
        "--project",
        metavar="PROJECT",
        shell_complete=_completing(_projects),
        help="Only this project's.",
    )(command)


def flow_argument(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the argument ``FLOW``."""
    return click.argument("flow", shell_complete=_completing(_flows))(command)
