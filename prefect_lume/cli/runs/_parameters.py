"""Options and values that several commands about runs share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from prefect_lume.cli._progress import quiet_prefect
from prefect_lume.cli.results._parameters import Duration
from prefect_lume.config import Context, open_context
from prefect_lume.errors import clip


class When(click.ParamType[datetime]):
    """A point in time: a date, a date and time, or how long ago (``2h``, ``7d``)."""

    name = "when"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the time that a text stands for, aware of its zone."""
        if isinstance(value, datetime):
            return value
        text = str(value).strip()
        now = datetime.now(UTC)
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        words = {
            "now": now,
            "today": today,
            "yesterday": today - timedelta(days=1),
        }
        if text.lower() in words:
            return words[text.lower()]
        try:
            return now - Duration().convert(text, None, None)
        except (click.BadParameter, OverflowError):
            pass
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{clip(repr(value), 40)} is no time: write a date (2026-01-31), a "
                f"date and time (2026-01-31T12:00, in UTC unless it says a zone, as in "
                f"2026-01-31T12:00+01:00), today, yesterday, or how long ago (2h, 7d).",
                param,
                ctx,
            )
        try:
            aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            return aware.astimezone(UTC)
        except OverflowError:
            self.fail(f"{clip(repr(value), 40)} is too far away.", param, ctx)


def open_services(services: str | None) -> Context:
    """Return the context of a stored Block's name, or the default."""
    with quiet_prefect():
        context = open_context(services)
        context.pipeline_storage()
        return context
