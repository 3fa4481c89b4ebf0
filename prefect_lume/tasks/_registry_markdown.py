"""What an operator reads of the registry: what is live, since when, by whom and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

from prefect_lume.errors import clip
from prefect_lume.registry import (
    DeploymentRecord,
    ModelDBService,
    ModelRecord,
    RegistryEvent,
)
from prefect_lume.registry.wording import either, in_words
from prefect_lume.results.describing import counted, one_line
from prefect_lume.tasks._artifacts import escaped

#: The most models and changes that are told; a longer page is nothing to read.
_MODELS: Final = 200
_CHANGES: Final = 20
#: The most characters of a text, and the digits of a hash.
_LONGEST: Final = 500
_SHORT: Final = 12
_TITLE: Final = 100
_CELL: Final = 40


def registry_markdown(registry: ModelDBService, now: datetime | None = None) -> str:
    """Return the registry as a page: what is live, each in detail, the last changes.

    It takes a handful of statements, however many models there are. Of more than 200
    models the newest are told.

    Args:
        registry: The registry.
        now: The time to write on the page.

    Example:
        >>> from prefect_lume.storage.sql import get_engine
        >>> registry = ModelDBService(get_engine("sqlite://"))
        >>> registry.apply_schema()
        >>> print(registry_markdown(registry).splitlines()[-1])
        There is no model yet.
        >>> registry.close()
    """
    page = registry.search_models(order_by="model_id DESC", limit=_MODELS)
    models = {model.model_id: model for model in reversed(page.items)}
    total = len(models)
    if page.next_page_token is not None:
        total = registry.count_models()
    head = [f"## Model registry, {_time(now or datetime.now(UTC))} UTC", ""]
    if not models:
        return "\n".join([*head, "There is no model yet."])
    oldest = min(models)
    live = _live(registry, oldest)
    named = _named(registry, oldest)
    since = registry.get_promotions(d.deployment_id for d in live.values())
    events = registry.get_history(limit=_CHANGES)
    head.append(_summary(registry, total, len(models)))
    parts = [
        head,
        _overview(models.values(), live, since),
        _without(models.values(), live),
        *(
            _detail(d, since.get(d.deployment_id), named.get(number, []))
            for number, d in live.items()
        ),
        _changes(events, models),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _live(registry: ModelDBService, oldest: int) -> dict[int, DeploymentRecord]:
    found = registry.search_deployments(
        f"is_live AND model_id >= {oldest}", order_by="model_id", limit=_MODELS
    )
    return {item.model_id: item for item in found.items}


def _named(registry: ModelDBService, oldest: int) -> dict[int, list[DeploymentRecord]]:
    """Return the deployments that have aliases, by model."""
    found: dict[int, list[DeploymentRecord]] = {}
    asked = f"alias IS NOT NULL AND model_id >= {oldest}"
    page = registry.search_deployments(asked, order_by="deployment_id", limit=10_000)
    for item in page.items:
        found.setdefault(item.model_id, []).append(item)
    return found


def _summary(registry: ModelDBService, total: int, shown: int) -> str:
    live = registry.count_models("is_live")
    some = f" The newest {shown} are told here." if shown < total else ""
    return f"{counted(total, 'model')}, {live} of them with a live deployment.{some}"


def _overview(
    models: Iterable[ModelRecord],
    live: Mapping[int, DeploymentRecord],
    since: Mapping[int, RegistryEvent],
) -> list[str]:
    rows = []
    for model in models:
        deployment = live.get(model.model_id)
        if deployment is None:
            continue
        event = since.get(deployment.deployment_id)
        cells = [
            str(model.model_id),
            _text(clip(model.description, _CELL)),
            _text(clip(deployment.version, _CELL)),
            _time(event.happened) if event else "",
            _text(clip(event.actor, _CELL)) if event else "",
        ]
        rows.append(f"| {' | '.join(cells)} |")
    if not rows:
        return ["### Live", "", "No deployment is live."]
    header = "| | model | version | since (UTC) | by |"
    return ["### Live", "", header, "|--:|---|---|---|---|", *rows]


def _without(
    models: Iterable[ModelRecord], live: Mapping[int, DeploymentRecord]
) -> list[str]:
    rest = [model for model in models if model.model_id not in live]
    if not rest or not live:
        return []
    return [
        "### Not live",
        "",
        *(f"- model {m.model_id}: {_text(m.description)}" for m in rest),
    ]


def _detail(
    deployment: DeploymentRecord,
    event: RegistryEvent | None,
    named: Iterable[DeploymentRecord],
) -> list[str]:
    model = deployment.model
    pairs = [
        ("live", _text(_standing(deployment, event))),
        ("about", _text(deployment.description)),
        ("model", _text(_origin(model))),
        ("source", _text(deployment.source)),
        ("sha256", f"`{deployment.sha256[:_SHORT]}`"),
        ("image", _text(deployment.image or "none")),
        ("lock", "yes" if deployment.has_lock else "none"),
        ("aliases", _text(", ".join(_aliases(named)))),
        ("tags", _text(", ".join(f"{k}={v}" for k, v in deployment.tags.items()))),
        ("flows", _text(", ".join(_flows(deployment)) or "none")),
    ]
    title = f"{_text(clip(model.description, _TITLE))} · {_text(deployment.version)}"
    # A list, as Prefect's UI breaks no lines in tables.
    return [f"### {title}", "", *(f"- **{n}** {value}" for n, value in pairs if value)]


def _standing(deployment: DeploymentRecord, event: RegistryEvent | None) -> str:
    number = f"deployment {deployment.deployment_id}"
    if event is None:
        return f"{number}, since before there was a history"
    why = f": {event.reason}" if event.reason else ""
    return f"{number}, since {_time(event.happened)} UTC, by {event.actor}{why}"


def _origin(model: ModelRecord) -> str:
    where = f"{model.laboratory}/{model.facility}/{model.beampath}"
    return f"{model.author}, {where}"


def _aliases(named: Iterable[DeploymentRecord]) -> Iterator[str]:
    for item in named:
        for alias in item.aliases:
            yield f"{alias} → {item.version}"


def _flows(deployment: DeploymentRecord) -> Iterator[str]:
    for flow in deployment.flows:
        yield f"{flow.project_name}/{flow.flow_name}"


def _changes(
    events: Iterable[RegistryEvent], models: Mapping[int, ModelRecord]
) -> list[str]:
    lines = []
    for event in events:
        why = f"{event.actor}: {event.reason}" if event.reason else event.actor
        told = f"{_subject(event, models)}: {in_words(event)}, by {why}"
        lines.append(f"- **{_time(event.happened)}** {_text(told)}")
    return ["### Last changes (UTC)", "", *lines]


def _subject(event: RegistryEvent, models: Mapping[int, ModelRecord]) -> str:
    if event.model_id is None:
        name = either(event, "project_name")
        return f"project {name}" if name else "a project"
    model = models.get(event.model_id)
    return clip(model.description, _TITLE) if model else f"model {event.model_id}"


def _text(text: object) -> str:
    """Return stored text as markdown shows it: no mark-up, no link, one line."""
    shown = escaped(one_line(clip(text, _LONGEST)))
    # These would become links without being written as such.
    return shown.replace("@", r"\@").replace("www.", r"www\.")


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M")
