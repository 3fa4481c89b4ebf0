"""Which context a call uses: the one it names, the configured one, the embedded."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Final

import httpx
from prefect.settings import get_current_settings

from prefect_lume.config.wiring import Context
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import (
    ConfigurationError,
    ConnectionFailedError,
    NotFoundError,
    clip,
)
from prefect_lume.settings import LumeSettings

#: The registry's deployment that the running subflow is of, in this process.
running_deployment: Final[ContextVar[int | None]] = ContextVar(
    "prefect_lume_running_deployment", default=None
)

#: The services of the composition that runs the calling subflow in this process.
running_services: Final[ContextVar[LumeServices | str | None]] = ContextVar(
    "prefect_lume_running_services", default=None
)

_configured: Context | None = None
_contexts: dict[str, Context] = {}
_lock = threading.Lock()


def configure(services: LumeServices | str | None = None) -> None:
    """Choose the services of every later call in this process that names none.

    Args:
        services: A Block, the name of a stored one, or nothing: what
            `PREFECT_LUME_SERVICES` names, else the embedded default.

    Raises:
        NotFoundError: There is no Block of that name.
    """
    global _configured  # noqa: PLW0603 - the one process-wide choice, under a lock.
    chosen = open_context(services) if services is not None else None
    with _lock:
        _configured = chosen


def current_context() -> Context:
    """Return the context of calls that name no services."""
    return open_context(None)


def known_contexts() -> list[Context]:
    """Return every context of this process that calls may come to."""
    with _lock:
        configured = [] if _configured is None else [_configured]
        return [*configured, *_contexts.values()]


def open_context(services: LumeServices | str | None = None) -> Context:
    """Return the context of a Block, of a stored Block's name, or the default.

    Equal choices share one context, so that its services are made once.

    Args:
        services: A Block, the name of a stored one, or nothing: in a subflow that
            runs in process those of its composition, else the configured context, else
            what `PREFECT_LUME_SERVICES` names, else the embedded one.

    Raises:
        NotFoundError: There is no Block of that name.
        ConfigurationError: The argument is neither of these.

    Example:
        >>> open_context() is open_context(None)
        True
    """
    settings = LumeSettings.load()
    if services is None:
        services = running_services.get()
    if services is None:
        if _configured is not None:
            return _configured
        services = settings.services or None
    if isinstance(services, str):
        name = services
        return _shared(f"name {name}", lambda: load_services(name), settings)
    if services is None:
        return _shared(_default_key(), LumeServices, settings)
    if isinstance(services, LumeServices):
        block = services
        return _shared(_content_key(block), lambda: block, settings)
    raise ConfigurationError(
        f"'services' is a {type(services).__name__}: give a LumeServices Block, the "
        f"name of a stored one, or nothing for the default."
    )


@functools.cache
def _default_key() -> str:
    # A Block takes hundreds of milliseconds to tell what it holds.
    return _content_key(LumeServices())


def _content_key(block: LumeServices) -> str:
    # Secrets included, so that a changed password makes a new context; hashed, so that
    # none is kept in a key.
    text = repr(block.model_dump(mode="json", context={"include_secrets": True}))
    return f"content {hashlib.sha256(text.encode()).hexdigest()}"


def _shared(
    key: str, load: Callable[[], LumeServices], settings: LumeSettings
) -> Context:
    key = f"{key} {settings.model_dump_json()} {settings.home_path()}"
    with _lock:
        context = _contexts.get(key)
    if context is None:
        made = Context(load(), settings)
        with _lock:
            context = _contexts.setdefault(key, made)
    return context


def load_services(name: str) -> LumeServices:
    """Load a stored LumeServices Block by its name.

    Raises:
        NotFoundError: There is no Block of that name.
        ConnectionFailedError: The Prefect server that keeps it cannot be used.
        ConfigurationError: What is stored under that name is no such Block.
    """
    try:
        block = LumeServices.load(name, _sync=True)  # type: ignore[call-arg]
    except httpx.HTTPError as error:
        server = str(get_current_settings().api.url or "of this machine")
        raise ConnectionFailedError(
            f"The Prefect server {server}, which keeps the Block {name!r}, cannot be "
            f"used: {clip(error)}. Start it, or correct PREFECT_API_URL.",
            server,
        ) from error
    except RuntimeError as error:
        raise ConfigurationError(
            f"The Block {name!r} cannot be loaded: {clip(error)}"
        ) from error
    except ValueError as error:
        raise NotFoundError(
            "LumeServices Block",
            name,
            hint="Create it in the Prefect UI (Blocks) or with LumeServices(...).save",
        ) from error
    if not isinstance(block, LumeServices):
        raise ConfigurationError(f"The Block {name!r} is not a LumeServices Block.")
    return block
