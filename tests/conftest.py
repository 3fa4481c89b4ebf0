"""What holds for every test: the user's own Prefect is never touched."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


def _isolate_prefect() -> Path:
    """Point Prefect and prefect-lume at a home of their own, before they load."""
    if "prefect" in sys.modules:
        message = "Prefect was imported before the tests could give it its own home"
        raise pytest.UsageError(message)
    home = Path(tempfile.mkdtemp(prefix="prefect-lume-tests-"))
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ |= {
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_PROFILES_PATH": str(home / "prefect" / "profiles.toml"),
        "PREFECT_LUME_HOME": str(home / "lume"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # Two busy cores take longer than the 20 s that Prefect allows.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }
    return home


def _take_interrupts() -> None:
    """Let SIGINT do what it does elsewhere, in this process and those it starts.

    A shell that runs something in the background lets it ignore SIGINT, and so would a
    Prefect worker, which stops itself by it.
    """
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):
        signal.signal(signal.SIGINT, signal.default_int_handler)


_HOME = _isolate_prefect()
_take_interrupts()


def pytest_configure(config: pytest.Config) -> None:
    """Load the service fixtures; tests are no package, hence by path."""
    path = Path(__file__).parent / "plugins" / "services.py"
    spec = importlib.util.spec_from_file_location("lume_service_plugin", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    config.pluginmanager.register(module, "lume-services")


def pytest_unconfigure() -> None:
    """Remove the home that the tests had."""
    # Prefect says goodbye at exit, to streams that pytest has closed by then.
    logging.raiseExceptions = False
    shutil.rmtree(_HOME, ignore_errors=True)
