"""Errors while Prefect imports a file, which Prefect itself would hide."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from prefect_lume.errors import LumeError

_IMPORTER = "prefect.utilities.importtools"


@contextmanager
def told_at_import() -> Iterator[None]:
    """Print an error of ours that comes while Prefect imports the calling file.

    `prefect deploy` and workers say of a file that cannot be imported no more than
    "Could not find object": the cause is printed here, and raised on.
    """
    try:
        yield
    except LumeError as error:
        if _imported_by_prefect():
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        raise


def _imported_by_prefect() -> bool:
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == _IMPORTER:
            return True
        frame = frame.f_back
    return False
