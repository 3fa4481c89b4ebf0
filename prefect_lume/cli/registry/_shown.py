"""How the registry's records look on a terminal, and in JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from prefect_lume.cli.results._tables import output
from prefect_lume.cli.runs._shown import iso, pin
from prefect_lume.errors import clip
from prefect_lume.registry import DeploymentRecord, FlowRecord, RegistryEvent
from prefect_lume.results.describing import one_line

#: The most characters of a value in a line about an event.
_VALUE = 60
#: Digits of a hash that are shown where its beginning will do.
_SHORT = 12


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
    """Return an event in a line: what, of which, before and after, who, why."""
    parts = []
    for name in dict.fromkeys([*event.before, *event.after]):
        before, after = event.before.get(name), event.after.get(name)
        if name in event.before and name in event.after:
            parts.append(f"{name} {say(before)} → {say(after)}")
        elif name in event.after:
            parts.append(f"{name} {say(after)}")
        else:
            parts.append(f"{name} was {say(before)}")
    number = "" if event.deployment_id is None else f" {event.deployment_id}"
    reason = f' "{say(event.reason, 200)}"' if event.reason else ""
    return f"{event.kind}{number}: {', '.join(parts)} (by {say(event.actor)}){reason}"


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


def print_deployments(records: Iterable[DeploymentRecord]) -> None:
    """Print deployments, a row each."""
    rows = []
    for item in records:
        dim = "bright_black" if item.retired else ""
        cells = [
            item.deployment_id,
            item.model.description,
            item.version,
            ", ".join(item.aliases),
            local(item.deploy_date),
            short(item.sha256),
        ]
        rows.append([*(Text(say(c, 300), style=dim) for c in cells), state(item)])
    headers = ["id", "model", "version", "aliases", "stored", "sha256", "state"]
    print_table(headers, rows, "model", "version", "aliases", "stored", "sha256")


def print_history(events: Iterable[RegistryEvent]) -> None:
    """Print events, the newest first."""
    rows = [
        [
            f"{event.subject} {event.number}"
            if event.model_id is None
            else f"{event.model_id}:{event.number}",
            local(event.happened),
            event_text(event),
        ]
        for event in events
    ]
    console = output()
    for number, when, text in rows:
        line = Text(f"{number}  {when}  ", style="bold")
        line.append(text, style="not bold")
        console.print(line, soft_wrap=True)
