"""Model packages: what one says of itself, unpacking it, building its sdist.

No code of a package is ever run here.
"""

from __future__ import annotations

from prefect_lume.packages.archives import Kind, Limits
from prefect_lume.packages.building import build_sdist
from prefect_lume.packages.layout import GROUP, LAYOUT
from prefect_lume.packages.sources import (
    PackageSource,
    inspect_source,
    local_path,
    unpack,
)

__all__ = [
    "GROUP",
    "LAYOUT",
    "Kind",
    "Limits",
    "PackageSource",
    "build_sdist",
    "inspect_source",
    "local_path",
    "unpack",
]
