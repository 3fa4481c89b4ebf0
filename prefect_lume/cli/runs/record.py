"""``prefect-lume runs record``: the service that follows a whole Prefect server."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click
from prefect.settings import PREFECT_API_URL
from rich.console import Console
from rich.status import Status

from prefect_lume.cli._options import json_option, services_option
from prefect_lume.cli.results._parameters import Duration
from prefect_lume.cli.runs._parameters import When, open_services
from prefect_lume.errors import ConfigurationError, ConnectionFailedError, clip

if TYPE_CHECKING:
    from prefect_lume.recorder.service.recorder import RecorderService

#: Seconds between two lines where nobody watches.
_LINE_EVERY: Final = 60.0
_LOOK_EVERY: Final = 1.0


@click.command("record")
@services_option
@click.option(
    "--since",
    type=When(),
    metavar="WHEN",
    help="Read from this time on: a date, or how long ago (2h, 7d). Default: where the "
    "last recorder stopped; the first one reads all that the server still has.",
)
@click.option(
    "--once",
    is_flag=True,
    help="Record all that there is, close what ended without a word, and end.",
)
@click.option(
    "--poll",
    type=click.FloatRange(0.05, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often the server is asked for more.",
)
@click.option(
    "--lost-after",
    type=Duration(),
    default="10m",
    show_default=True,
    metavar="DURATION",
    help="A run that gave no sign of life for so long is closed as failed. More than "
    "two of Prefect's heartbeats, which come every 3 minutes.",
)
@click.option(
    "--silent-after",
    type=Duration(),
    default="24h",
    show_default=True,
    metavar="DURATION",
    help="The same for runs that send no heartbeats.",
)
@json_option
def command(
    services: str | None,
    since: datetime | None,
    once: bool,
    poll: float,
    lost_after: timedelta,
    silent_after: timedelta,
    as_json: bool,
) -> None:
    """Record every state change of all that runs on the Prefect server.

    It runs until it is stopped (Ctrl-C, SIGTERM), and goes on where it was when it is
    started again. Server and database may be away for a while. Several may run at
    once: everything is recorded once.
    """
    api = PREFECT_API_URL.value()
    if not api:
        raise ConfigurationError(
            "There is no Prefect server to follow: PREFECT_API_URL is not set. Name "
            "the server's API, for example http://127.0.0.1:4200/api. The temporary "
            "server that Prefect starts without it ends with each process."
        )
    context = open_services(services)
    with _stopped_by_signals() as stop:
        from prefect.client.orchestration import get_client

        from prefect_lume.recorder.api.directory import FlowRunDirectory
        from prefect_lume.recorder.api.links import DeploymentLinks
        from prefect_lume.recorder.service.recorder import RecorderService

        client = get_client(sync_client=True)
        with client:
            service = RecorderService(
                client,
                context.pipeline_storage(),
                FlowRunDirectory(client, DeploymentLinks(context, strict=True)),
                source=str(client.api_url).rstrip("/"),
                since=since,
                poll=poll,
                lost_after=lost_after,
                silent_after=silent_after,
            )
            with _Reporter(service, as_json=as_json, once=once):
                _record(service, stop, api, once=once)


def _record(
    service: RecorderService, stop: threading.Event, api: str, *, once: bool
) -> None:
    import httpx

    if not once:
        service.run(stop)
        return
    try:
        service.run_once(stop)
    except httpx.HTTPError as error:
        raise ConnectionFailedError(
            f"The Prefect server {api} cannot be used: {clip(error)}", api
        ) from error


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that is set when the process is told to end."""
    stop = threading.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        del number, frame
        stop.set()

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.signal(kind, handle) for kind in kinds}
    try:
        yield stop
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


class _Reporter:
    """Says how the recorder does: live on a terminal, else a line a minute."""

    def __init__(self, service: RecorderService, *, as_json: bool, once: bool) -> None:
        self._service, self._as_json, self._once = service, as_json, once
        self._console = Console(stderr=True)
        self._is_live = self._console.is_terminal and not as_json
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._last = (time.monotonic(), 0)
        logging.getLogger("prefect_lume.recorder").addHandler(_handler())

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *args: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._as_json:
            click.echo(json.dumps(self._facts()))
        else:
            click.echo(f"Recorded: {self._text()}")

    def _watch(self) -> None:
        if self._is_live:
            with Status("Recording", console=self._console) as status:
                while not self._ended.wait(_LOOK_EVERY):
                    status.update(f"Recording: {self._text()}")
            return
        while not self._ended.wait(_LINE_EVERY):
            if self._as_json and not self._once:
                click.echo(json.dumps(self._facts()))
            elif not self._as_json:
                time_text = datetime.now(UTC).isoformat(timespec="seconds")
                click.echo(f"{time_text} {self._text()}", err=True)

    def _facts(self) -> dict[str, Any]:
        told = self._service.statistics
        then, before = self._last
        now = time.monotonic()
        self._last = (now, told.recorded)
        reconciled = told.reconciled
        return {
            "recorded": told.recorded,
            "per_second": round((told.recorded - before) / max(now - then, 1e-3), 1),
            "lag_seconds": round(told.lag.total_seconds(), 1),
            "open_runs": reconciled.open if reconciled else None,
            "filled_runs": told.filled,
            "closed": told.closed,
            "refused": told.refused,
        }

    def _text(self) -> str:
        facts = self._facts()
        parts = [
            f"{facts['recorded']:,} changes",
            f"{facts['per_second']:g} per second",
            f"lag {facts['lag_seconds']:g} s",
        ]
        if facts["open_runs"] is not None:
            parts.append(f"{facts['open_runs']} runs open")
        for name, what in (
            ("filled_runs", "runs filled in"),
            ("closed", "closed without a report"),
            ("refused", "events refused"),
        ):
            if facts[name]:
                parts.append(f"{facts[name]} {what}")
        return ", ".join(parts)


def _handler() -> logging.Handler:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler
