"""The command line: a thin face of the package, loaded command by command."""

from __future__ import annotations

from prefect_lume.cli._main import main

__all__ = ["main"]
