"""The entity-relationship diagram of the code's tables, as Mermaid or SVG.

It is drawn from SQLAlchemy's metadata and from nothing else, so the picture in the
documentation is that of the code, and a test says when it is not.
"""

from __future__ import annotations

from typing import Final

from prefect_lume.migrations.diagram._mermaid import mermaid as _mermaid
from prefect_lume.migrations.diagram._schema import Schema, read
from prefect_lume.migrations.diagram._svg import svg as _svg

#: What can be drawn. Tables of different parts do not refer to each other.
PARTS: Final = ("registry", "results", "pipelines")


def mermaid(part: str = "registry") -> str:
    """Return the diagram of one part's tables in Mermaid's language.

    Args:
        part: ``"registry"``, ``"results"`` or ``"pipelines"``.

    Example:
        >>> "model ||--o{ deployment : model_id" in mermaid()
        True
    """
    return _mermaid(_schema(part))


def svg(part: str = "registry") -> str:
    """Return the diagram of one part's tables as an SVG picture.

    Args:
        part: ``"registry"``, ``"results"`` or ``"pipelines"``.

    Example:
        >>> svg().startswith("<svg ")
        True
    """
    return _svg(_schema(part), f"Tables of prefect-lume: {part}")


def _schema(part: str) -> Schema:
    from prefect_lume.migrations import _drift

    return read(_drift.metadatas()[PARTS.index(part)])


__all__ = ["PARTS", "mermaid", "svg"]
