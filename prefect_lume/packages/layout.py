"""The layout of a model package, in words, for every message that needs it."""

from __future__ import annotations

import re
from typing import Final

from prefect_lume.errors import PackageError, clip

#: The group of a model package's entry points.
GROUP: Final = "orchestration"

#: What a model package looks like.
LAYOUT: Final = (
    "A model package has environment.yml at its root, entry points "
    "'<package>.flow' and '<package>.model' in the group 'orchestration', and "
    "<package>/_image.py with IMAGE = '...'."
)

_VERSION: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z.!+_-]{0,99}")
_NAME: Final = re.compile(r"[0-9A-Za-z](?:[0-9A-Za-z._-]{0,198}[0-9A-Za-z])?")
_MOST_NAME: Final = 1000
_MOST_STEP: Final = 255


def checked_name(name: str, where: str) -> str:
    """Return a project's name, or refuse what cannot be one."""
    if not _NAME.fullmatch(name):
        raise PackageError(
            f"{where}: {clip(repr(name), 80)} is not the name of a Python project: "
            "use letters, digits, '.', '_' and '-'."
        )
    return name


def checked_version(version: str, where: str) -> str:
    """Return a version, or refuse what cannot be one (it names a folder)."""
    if not _VERSION.fullmatch(version) or ".." in version:
        raise PackageError(
            f"{where}: {clip(repr(version), 80)} is not a version. Write it like "
            "'1.2.0'."
        )
    return version


def checked_path(name: str, where: str) -> str:
    """Return a member's path in its plain form, or refuse one that leads out.

    Args:
        name: A path inside an archive or directory, with "/" between its steps.
        where: The archive, for the message.

    Example:
        >>> checked_path("./pkg/flow.py", "x.tar.gz")
        'pkg/flow.py'
    """
    steps = [step for step in name.split("/") if step != "."]
    if steps and steps[-1] == "":
        steps.pop()
    wrong = (
        not steps
        or any(step in {"", ".."} for step in steps)
        or not name.isprintable()
        or "\\" in name
        or re.match(r"[A-Za-z]:", name)
        or len(name) > _MOST_NAME
        or any(len(step.encode("utf-8", "replace")) > _MOST_STEP for step in steps)
    )
    if wrong:
        raise PackageError(
            f"{where} holds {clip(repr(name), 120)}, which is not a path inside the "
            "package. Nothing was unpacked."
        )
    return "/".join(steps)
