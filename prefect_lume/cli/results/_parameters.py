"""Options and values that several commands about results share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import click

from prefect_lume.errors import clip

_Command = Callable[..., Any]

_UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_DURATION: Final = re.compile(r"(?:\d{1,6}[wdhms])+", re.ASCII)
_PART: Final = re.compile(r"(\d+)([wdhms])", re.ASCII)
_LARGEST_FILE: Final = 1 << 20
#: The largest number of results that may be asked for.
MOST: Final = 1_000_000_000


class Duration(click.ParamType[timedelta]):
    """A time span such as ``90d``, ``12h`` or ``1w2d``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the time span that a text stands for."""
        if isinstance(value, timedelta):
            return value
        text = str(value).strip()
        if not _DURATION.fullmatch(text):
            self.fail(
                f"{clip(repr(value), 40)} is no duration: write a whole number and a "
                f"unit, w, d, h, m (minutes) or s, such as 90d, 12h or 1w2d.",
                param,
                ctx,
            )
        parts = _PART.findall(text)
        try:
            return sum((int(n) * _UNITS[unit] for n, unit in parts), timedelta(0))
        except OverflowError:
            self.fail(f"{clip(repr(value), 40)} is too long a time.", param, ctx)


class JSONQuery(click.ParamType[dict[str, Any]]):
    """A query as JSON text, or ``@FILE`` for one in a file.

    ``{"$date": "2026-01-31T12:00:00Z"}`` stands for a date.
    """

    name = "json"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """Return the query that a text stands for; its operators are not checked."""
        if isinstance(value, dict):
            return value
        text = str(value)
        if text.startswith("@"):
            text = self._read(text[1:], param, ctx)
        try:
            query = json.loads(text, object_hook=_date, parse_constant=_refuse)
        except json.JSONDecodeError as error:
            place = f"line {error.lineno}, column {error.colno}"
            near = text[max(0, error.pos - 15) : error.pos + 15]
            self.fail(
                f"this is no JSON, at {place}, near {near!r}: {error.msg}. Names and "
                f"texts stand in double quotes; in a shell put single quotes around "
                f'it all: \'{{"inputs.charge": {{"$gt": 1e-9}}}}\'.',
                param,
                ctx,
            )
        except (ValueError, RecursionError) as error:
            self.fail(f"this cannot be a query: {clip(error)}", param, ctx)
        if not isinstance(query, dict):
            self.fail(
                f"a query is a JSON object, {{...}}, not {clip(repr(query), 40)}.",
                param,
                ctx,
            )
        return query

    def _read(
        self, name: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        path = Path(name)
        try:
            if path.stat().st_size > _LARGEST_FILE:
                self.fail(f"the file {name!r} is too large for a query.", param, ctx)
            return path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            self.fail(f"the file {name!r} cannot be read: {why}.", param, ctx)


def _date(item: dict[str, Any]) -> Any:
    if set(item) != {"$date"}:
        return item
    text = item["$date"]
    try:
        return datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise ValueError(
            f"{clip(repr(text), 40)} after $date is no date: write it as "
            f'{{"$date": "2026-01-31T12:00:00Z"}}.'
        ) from None


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is not JSON.")


def query_option(command: _Command) -> _Command:
    """Add ``--query JSON``."""
    return click.option(
        "--query",
        metavar="JSON",
        type=JSONQuery(),
        default=None,
        help="Only results that match this query; @FILE reads it from a file.",
    )(command)


def projects_option(command: _Command) -> _Command:
    """Add ``--project NAME``, which may be given many times."""
    return click.option(
        "--project",
        "projects",
        metavar="NAME",
        multiple=True,
        help="Only results of this project. It may be given many times.",
    )(command)


def type_option(command: _Command) -> _Command:
    """Add ``--type NAME``."""
    return click.option(
        "--type",
        "result_type",
        metavar="NAME",
        default=None,
        help="Only results of this type.",
    )(command)


def duplicate_option(command: _Command) -> _Command:
    """Add ``--on-duplicate``."""
    return click.option(
        "--on-duplicate",
        type=click.Choice(["return", "raise", "replace"]),
        default="return",
        show_default=True,
        help="What to do with a result that is there already: keep it, stop before "
        "anything is stored, or replace it.",
    )(command)


def dry_run_option(command: _Command) -> _Command:
    """Add ``--dry-run``."""
    return click.option("--dry-run", is_flag=True, help="Only say what would be done.")(
        command
    )


def yes_option(command: _Command) -> _Command:
    """Add ``--yes``."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask.")(command)
