"""How the registry's records look on a terminal, and in JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from prefect_lume.cli.results._tables import output
from prefect_lume.cli.runs._shown import iso, pin
from prefect_lume.errors import clip
from prefect_lume.registry import DeploymentRecord, FlowRecord, RegistryEvent
from prefect_lume.registry.wording import in_words
from prefect_lume.results.describing import one_line

#: The most characters of a value in a line about an event.
_VALUE = 60
#: Digits of a hash that are shown where its beginning will do.
_SHORT = 12
#: From this width there is room for hashes.
_WIDE = 110


def record_json(record: Any) -> dict[str, Any]:
    """Return a record for JSON, times in ISO 8601."""
    return {
        name: iso(value) if isinstance(value, datetime) else _plain(value)
        for name, value in dataclasses.asdict(record).items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return iso(value) if isinstance(value, datetime) else value


def deployment_json(record: DeploymentRecord) -> dict[str, Any]:
    """Return a deployment for JSON, with its model's number besides."""
    return {"model_id": record.model_id, **record_json(record)}


def flow_json(record: FlowRecord) -> dict[str, Any]:
    """Return a flow for JSON, with its project's name besides."""
    return {
        "project_name": record.project_name,
        "deployment_id": record.deployment_id,
        **record_json(record),
    }


def event_json(event: RegistryEvent) -> dict[str, Any]:
    """Return an event for JSON, with the model's number besides."""
    return {"model_id": event.model_id, **record_json(event)}


def local(moment: datetime | None) -> str:
    """Return a time in this machine's zone, to the minute, with the zone's name."""
    if moment is None:
        return ""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M %Z")


def local_column(moments: Sequence[datetime]) -> tuple[str, list[str]]:
    """Return the zone of times, and the times without it if they are all of one."""
    told = [local(moment).rsplit(" ", 1) for moment in moments]
    zones = {zone for _, zone in told}
    if len(zones) == 1:
        return f" ({zones.pop()})", [time for time, _ in told]
    # Some in summer time, some not.
    return "", [" ".join(parts) for parts in told]


def short(sha256: str) -> str:
    """Return the beginning of a hash."""
    return sha256[:_SHORT]


def say(value: Any, limit: int = _VALUE) -> str:
    """Return any value as one short line."""
    if value is None:
        return "none"
    if isinstance(value, dict):
        value = ", ".join(f"{name}={item}" for name, item in value.items()) or "none"
    return one_line(clip(value, limit))


def event_text(event: RegistryEvent) -> str:
    """Return an event in a line: what, before and after, who, why."""
    reason = f": {say(event.reason, 200)}" if event.reason else ""
    return f"{one_line(in_words(event))}, by {say(event.actor)}{reason}"


def print_table(
    columns: Iterable[str], rows: Iterable[Iterable[Any]], *fold: str
) -> None:
    """Print a table that fits the terminal.

    Args:
        columns: The headers.
        rows: The cells, texts or :class:`rich.text.Text`.
        *fold: The headers of columns that give way where there is no room.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(
            *(cell if isinstance(cell, Text) else Text(say(cell, 500)) for cell in row)
        )
    console = output()
    pin(table, console.width, *fold)
    console.print(table)


def print_fields(fields: Iterable[tuple[str, Any]]) -> None:
    """Print names and values, a line each; what has no value is left out."""
    console = output()
    shown = [(name, value) for name, value in fields if value not in (None, "", {}, ())]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        line = Text(f"{name:<{width}}  ", style="bold")
        line.append(value if isinstance(value, Text) else Text(say(value, 2_000)))
        console.print(line, soft_wrap=True)


def state(record: DeploymentRecord) -> Text:
    """Return whether a deployment is live or retired, with a sign."""
    if record.is_live:
        return Text("● live", style="green")
    if record.retired is not None:
        return Text("⊘ retired", style="bright_black")
    return Text("")


def print_deployments(
    records: Sequence[DeploymentRecord], *, model: bool = True
) -> None:
    """Print deployments, a row each; those that are retired are dimmed.

    Args:
        records: The deployments.
        model: Whether to name the model of each.
    """
    zone, times = local_column([item.deploy_date for item in records])
    wide = output().width >= _WIDE
    headers = ["id", "version", "state", "model", "aliases", f"stored{zone}", "sha256"]
    left_out = set() if model else {"model"}
    left_out |= set() if wide else {"sha256"}
    rows = []
    for item, time in zip(records, times, strict=True):
        cells = [
            Text(str(item.deployment_id)),
            Text(say(item.version, 300)),
            state(item),
            Text(say(item.model.description, 300)),
            Text(say(", ".join(item.aliases), 300)),
            Text(time),
            Text(short(item.sha256)),
        ]
        for cell in cells:
            cell.stylize("dim" if item.retired else "")
        named = zip(headers, cells, strict=True)
        rows.append([cell for name, cell in named if name not in left_out])
    shown = [name for name in headers if name not in left_out]
    print_table(shown, rows, "model", "version", "aliases")


def standing(event: RegistryEvent | None) -> str:
    """Return since when a live deployment is so, by whom and why."""
    if event is None:
        return "since before there was a history"
    why = f": {event.reason}" if event.reason else ""
    return f"since {local(event.happened)}, by {event.actor}{why}"


def print_history(events: Sequence[RegistryEvent]) -> None:
    """Print events, the newest first: number, time, what, by whom, why."""
    console = output()
    named = len({(event.subject, event.subject_id) for event in events}) > 1
    digits = max(len(str(event.number)) for event in events)
    for event in events:
        line = Text(f"{event.number:>{digits}}  {local(event.happened)}  ")
        if named:
            line.append(f"{event.subject} {event.subject_id}  ")
        line.append(one_line(in_words(event)), style="bold")
        about = f"{' ' * digits}  by {say(event.actor, 255)}"
        why = f": {say(event.reason, 4_000)}" if event.reason else ""
        console.print(line, soft_wrap=True)
        console.print(Text(f"{about}{why}", style="dim"), soft_wrap=True)
