"""A schema as an SVG picture: tables in columns, lines with crow's feet."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape

from prefect_lume.migrations.diagram._layout import HEAD, ROW, Layout, Link, arrange
from prefect_lume.migrations.diagram._schema import Column, Entity, Schema

_MARGIN: Final = 28.0
#: The width of a character of the monospaced type at 12 px, with a little to spare.
_CHARACTER: Final = 7.3
_KEYS: Final = 56.0
_PADDING: Final = 12.0
#: The room between a table and the nearest vertical line; between two such lines.
_STUB: Final = 26.0
_TRACK: Final = 14.0
_RADIUS: Final = 6.0
_LEGEND: Final = (
    "PK primary key   FK foreign key   UK unique   ? may be NULL   "
    "dashed line: the key may be NULL"
)

_STYLE: Final = """\
text { font: 12px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; \
fill: #1f2933 }
.paper { fill: #ffffff }
.table { fill: #ffffff; stroke: #9fb3c8 }
.head { fill: #243b53 }
.name { font-weight: bold; font-size: 13px; fill: #ffffff }
.shade { fill: #f0f4f8 }
.key { font-size: 10px; font-weight: bold; fill: #b44d12 }
.kind, .legend { fill: #627d98; font-size: 11px }
.pk { font-weight: bold }
.line, .foot { fill: none; stroke: #486581; stroke-width: 1.4 }
.optional { stroke-dasharray: 5 3 }
.ring { fill: #ffffff; stroke: #486581; stroke-width: 1.4 }"""


@dataclass
class _Columns:
    """Where the columns of tables begin, and how wide they are."""

    lefts: list[float]
    widths: list[float]

    def right(self, number: int) -> float:
        return self.lefts[number] + self.widths[number]


def svg(schema: Schema, title: str) -> str:
    """Return the picture.

    Args:
        schema: What to draw.
        title: What it is, for those who do not see it.
    """
    layout = arrange(schema)
    channels = [_channel(layout, number) for number in range(len(layout.layers))]
    columns = _columns(layout, channels)
    width = columns.right(-1) + _MARGIN
    height = layout.height + 2 * _MARGIN + ROW
    box = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box} role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>\n{_STYLE}\n</style>",
        f'<rect class="paper" width="{width:g}" height="{height:g}" rx="8"/>',
        f'<g transform="translate(0 {_MARGIN:g})">',
        *(line for channel in channels for line in _wires(channel, columns)),
        *_passing(layout, columns),
        *_tables(layout, columns),
        _legend(layout.height + _MARGIN + 8),
        "</g>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _legend(y: float) -> str:
    return (
        f'<text class="legend" x="{_MARGIN:g}" y="{y:g}" xml:space="preserve">'
        f"{escape(_LEGEND)}</text>"
    )


def _columns(layout: Layout, channels: Sequence[Sequence[list[Link]]]) -> _Columns:
    found = _Columns([], [])
    at = _MARGIN
    for layer, channel in zip(layout.layers, channels, strict=True):
        entities = [node.entity for node in layer if node.entity is not None]
        widths = [_entity_width(entity) for entity in entities]
        found.lefts.append(at)
        found.widths.append(max(widths))
        at += found.widths[-1] + 2 * _STUB + _TRACK * max(len(channel) - 1, 0)
    return found


def _entity_width(entity: Entity) -> float:
    texts = [
        _KEYS + _CHARACTER * (len(column.name) + 2 + len(_kind(column)))
        for column in entity.columns
    ]
    return round(max(*texts, 9 * len(entity.name)) + 2 * _PADDING)


def _kind(column: Column) -> str:
    return column.kind.lower() + (" ?" if column.optional else "")


def _channel(layout: Layout, layer: int) -> list[list[Link]]:
    """Return the lines right of a layer, bundled as they leave, in their tracks."""
    bundles: dict[float, list[Link]] = {}
    for link in layout.links:
        if link.left.layer == layer:
            bundles.setdefault(link.start, []).append(link)
    groups = list(bundles.values())
    if len(groups) > 6:
        return sorted(groups, key=lambda group: -group[0].start)
    return min((list(order) for order in itertools.permutations(groups)), key=_tangles)


def _tangles(order: Sequence[Sequence[Link]]) -> int:
    """Count where a horizontal line would cross a vertical one."""
    spans = []
    for group in order:
        heights = [group[0].start, *(link.end for link in group)]
        spans.append((min(heights), max(heights)))
    count = 0
    for track, group in enumerate(order):
        for other, (upper, lower) in enumerate(spans):
            if other < track:
                count += upper <= group[0].start <= lower
            elif other > track:
                count += sum(upper <= link.end <= lower for link in group)
    return count


def _wires(channel: Sequence[Sequence[Link]], columns: _Columns) -> Iterator[str]:
    for number, group in enumerate(channel):
        for link in group:
            left = columns.right(link.left.layer)
            right = columns.lefts[link.right.layer]
            track = left + _STUB + number * _TRACK
            dashed = " optional" if link.reference.optional else ""
            path = _path(left, link.start, track, right, link.end)
            yield f'<path class="line{dashed}" d="{path}"/>'
            if link.left.entity is not None:
                yield _one(left, link.start)
            if link.right.entity is not None:
                yield from _foot(right, link.end, many=link.reference.many)


def _path(left: float, start: float, track: float, right: float, end: float) -> str:
    if start == end:
        return f"M{left:g} {start:g}H{right:g}"
    down = 1 if end > start else -1
    radius = min(_RADIUS, abs(end - start) / 2)
    turn = down * radius
    return (
        f"M{left:g} {start:g}H{track - radius:g}"
        f"Q{track:g} {start:g} {track:g} {start + turn:g}V{end - turn:g}"
        f"Q{track:g} {end:g} {track + radius:g} {end:g}H{right:g}"
    )


def _one(x: float, y: float) -> str:
    return f'<path class="foot" d="M{x + 8:g} {y - 5:g}v10"/>'


def _foot(x: float, y: float, *, many: bool) -> Iterator[str]:
    if many:
        toes = f"M{x:g} {y - 6:g}L{x - 11:g} {y:g}L{x:g} {y + 6:g}"
        yield f'<path class="foot" d="{toes}"/>'
    else:
        yield f'<path class="foot" d="M{x - 7:g} {y - 5:g}v10"/>'
    yield f'<circle class="ring" cx="{x - 15:g}" cy="{y:g}" r="3.5"/>'


def _passing(layout: Layout, columns: _Columns) -> Iterator[str]:
    for link in layout.links:
        if link.right.entity is None:
            layer = link.right.layer
            dashed = " optional" if link.reference.optional else ""
            path = f"M{columns.lefts[layer]:g} {link.end:g}H{columns.right(layer):g}"
            yield f'<path class="line{dashed}" d="{path}"/>'


def _tables(layout: Layout, columns: _Columns) -> Iterator[str]:
    for number, layer in enumerate(layout.layers):
        for node in layer:
            if node.entity is not None:
                place = f"{columns.lefts[number]:g} {node.top:g}"
                yield f'<g transform="translate({place})">'
                yield from _table(node.entity, columns.widths[number], node.height)
                yield "</g>"


def _table(entity: Entity, width: float, height: float) -> Iterator[str]:
    yield f'<rect class="table" width="{width:g}" height="{height:g}" rx="4"/>'
    yield (
        f'<path class="head" d="M0 {HEAD:g}V4Q0 0 4 0H{width - 4:g}'
        f'Q{width:g} 0 {width:g} 4V{HEAD:g}z"/>'
    )
    yield (
        f'<text class="name" x="{_PADDING:g}" y="{HEAD / 2 + 5:g}">'
        f"{escape(entity.name)}</text>"
    )
    for number, column in enumerate(entity.columns):
        top = HEAD + number * ROW
        base = top + ROW / 2 + 4
        if number % 2:
            yield (
                f'<rect class="shade" x="1" y="{top:g}" width="{width - 2:g}" '
                f'height="{ROW:g}"/>'
            )
        if column.keys:
            keys = " ".join(column.keys)
            yield f'<text class="key" x="{_PADDING:g}" y="{base:g}">{keys}</text>'
        bold = ' class="pk"' if "PK" in column.keys else ""
        name = escape(column.name)
        yield f'<text{bold} x="{_KEYS + _PADDING:g}" y="{base:g}">{name}</text>'
        yield (
            f'<text class="kind" x="{width - _PADDING:g}" y="{base:g}" '
            f'text-anchor="end">{escape(_kind(column))}</text>'
        )
