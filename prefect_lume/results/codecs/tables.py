"""Codecs of tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prefect_lume.results.codecs.base import Codec

CODECS: Final[tuple[Codec, ...]] = ()
TYPES: Final[Mapping[type, Codec]] = {}
NAMES: Final[Mapping[str, Codec]] = {}
