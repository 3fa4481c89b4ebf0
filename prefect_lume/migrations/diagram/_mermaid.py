"""A schema in Mermaid's language, which GitHub and many editors draw."""

from __future__ import annotations

from collections.abc import Iterator

from prefect_lume.migrations.diagram._schema import Reference, Schema


def mermaid(schema: Schema) -> str:
    """Return an ``erDiagram``."""
    return "\n".join(_lines(schema)) + "\n"


def _lines(schema: Schema) -> Iterator[str]:
    yield "erDiagram"
    for entity in schema.entities:
        yield f"    {entity.name} {{"
        for column in entity.columns:
            keys = f" {', '.join(column.keys)}" if column.keys else ""
            note = ' "may be NULL"' if column.optional else ""
            yield f"        {column.kind} {column.name}{keys}{note}"
        yield "    }"
    for reference in schema.references:
        yield f"    {_relation(reference)}"


def _relation(reference: Reference) -> str:
    one = "|o" if reference.optional else "||"
    many = "o{" if reference.many else "o|"
    ends = f"{reference.parent} {one}--{many} {reference.child}"
    return f"{ends} : {reference.child_column}"
