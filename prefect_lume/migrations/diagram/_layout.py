"""Where the tables of a diagram go: in columns, from what is referred to, rightward.

A table stands right of every table that it refers to. A reference that passes a column
of tables gets a place in it, as a table would, so that no line runs through a table.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from prefect_lume.migrations.diagram._schema import Entity, Reference, Schema

ROW: Final = 22.0
HEAD: Final = 32.0
#: Room between two tables of a column, and around a line that passes.
GAP: Final = 36.0
_PASSING: Final = 10.0
_SWEEPS: Final = 12
#: How far apart leave lines of keys that may be NULL and of those that may not.
_APART: Final = 5.0


@dataclass(eq=False)
class Node:
    """A table, or (without an entity) a line on its way past a column of tables.

    Attributes:
        layer: The column of tables it stands in, from 0.
        entity: The table.
        top: Its upper edge.
    """

    layer: int
    entity: Entity | None = None
    top: float = 0.0

    @property
    def height(self) -> float:
        """How much of the column it takes."""
        if self.entity is None:
            return _PASSING
        return HEAD + ROW * len(self.entity.columns)


@dataclass(eq=False)
class Link:
    """A line from one layer to the next: from ``offset`` below a node's upper edge."""

    left: Node
    left_offset: float
    right: Node
    right_offset: float
    reference: Reference

    @property
    def start(self) -> float:
        """The height at which it leaves."""
        return self.left.top + self.left_offset

    @property
    def end(self) -> float:
        """The height at which it arrives."""
        return self.right.top + self.right_offset


@dataclass
class Layout:
    """The tables and lines in their places."""

    layers: list[list[Node]]
    links: list[Link] = field(default_factory=list)

    @property
    def height(self) -> float:
        """The lower edge of what stands lowest."""
        return max(node.top + node.height for layer in self.layers for node in layer)


def arrange(schema: Schema) -> Layout:
    """Place a schema's tables and lead its references between them."""
    references = [item for item in schema.references if item.parent != item.child]
    linked = {name for item in references for name in (item.parent, item.child)}
    numbers = _layers(schema, references)
    nodes = {
        entity.name: Node(numbers[entity.name], entity)
        for entity in schema.entities
        if entity.name in linked
    }
    layout = Layout([[] for _ in range(max(numbers.values()) + 1)])
    for node in nodes.values():
        layout.layers[node.layer].append(node)
    _lead(layout, nodes, references)
    _order(layout)
    _settle(layout)
    for entity in schema.entities:
        if entity.name not in linked:
            _append(layout, Node(0, entity))
    return layout


def _layers(schema: Schema, references: Sequence[Reference]) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for entity in schema.entities:
        above = [numbers[r.parent] for r in references if r.child == entity.name]
        numbers[entity.name] = max(above, default=-1) + 1
    roots = {name for name, number in numbers.items() if number == 0}
    for name in roots:
        below = [numbers[r.child] for r in references if r.parent == name]
        numbers[name] = min(below, default=1) - 1
    return numbers


def _lead(
    layout: Layout, nodes: dict[str, Node], references: Iterable[Reference]
) -> None:
    """Cut each reference into links; those that leave together pass together."""
    passing: dict[tuple[str, str, bool, int], Node] = {}
    for item in references:
        parent, child = nodes[item.parent], nodes[item.child]
        shift = _APART if item.optional else 0.0
        left, offset = parent, _anchor(parent, item.parent_column) + shift
        for layer in range(parent.layer + 1, child.layer):
            key = (item.parent, item.parent_column, item.optional, layer)
            right = passing.get(key)
            if right is None:
                right = passing[key] = Node(layer)
                layout.layers[layer].append(right)
                layout.links.append(Link(left, offset, right, _PASSING / 2, item))
            left, offset = right, _PASSING / 2
        end = _anchor(child, item.child_column)
        layout.links.append(Link(left, offset, child, end, item))


def _anchor(node: Node, column: str) -> float:
    assert node.entity is not None
    return HEAD + ROW * (node.entity.row(column) + 0.5)


def _order(layout: Layout) -> None:
    """Order each column so that few lines cross; small ones by trying all orders."""
    for _ in range(_SWEEPS):
        before = _crossings(layout)
        for number, layer in enumerate(layout.layers):
            if len(layer) > 6:
                _by_neighbours(layout, number)
                continue
            orders = itertools.permutations(layer)
            layout.layers[number] = min(
                (list(order) for order in orders),
                key=lambda order, at=number: _crossings(layout, at, order),  # type: ignore[misc]
            )
        if _crossings(layout) == before:
            return


def _by_neighbours(layout: Layout, number: int) -> None:
    places = {
        node: place for layer in layout.layers for place, node in enumerate(layer)
    }

    def middle(node: Node) -> float:
        found = [places[link.left] for link in layout.links if link.right is node]
        found += [places[link.right] for link in layout.links if link.left is node]
        return sum(found) / len(found)

    layout.layers[number].sort(key=middle)


def _crossings(
    layout: Layout, number: int | None = None, order: Sequence[Node] = ()
) -> int:
    places = {
        node: place
        for at, layer in enumerate(layout.layers)
        for place, node in enumerate(order if at == number else layer)
    }
    count = 0
    for one, other in itertools.combinations(layout.links, 2):
        if one.left.layer != other.left.layer:
            continue
        first = (
            (places[one.left], one.left_offset),
            (places[one.right], one.right_offset),
        )
        then = (
            (places[other.left], other.left_offset),
            (places[other.right], other.right_offset),
        )
        left = (first[0] > then[0]) - (first[0] < then[0])
        right = (first[1] > then[1]) - (first[1] < then[1])
        count += left * right < 0
    return count


def _settle(layout: Layout) -> None:
    """Move the tables so that the lines are short and straight, in their orders."""
    for layer in layout.layers:
        _place(layer, [0.0 for _ in layer])
    for sweep in range(_SWEEPS * 2):
        layers = layout.layers if sweep % 2 else reversed(layout.layers)
        for layer in layers:
            _place(layer, [_wanted(layout, node) for node in layer])
    lowest = min(node.top for layer in layout.layers for node in layer)
    for layer in layout.layers:
        for node in layer:
            node.top = round(node.top - lowest)


def _wanted(layout: Layout, node: Node) -> float:
    ends = [x.start - x.right_offset for x in layout.links if x.right is node]
    ends += [x.end - x.left_offset for x in layout.links if x.left is node]
    return sum(ends) / len(ends)


def _place(layer: Sequence[Node], wanted: Sequence[float]) -> None:
    """Put each node where it wants to be; those in each other's way share the loss."""
    groups: list[tuple[list[Node], float]] = []
    for node, top in zip(layer, wanted, strict=True):
        members, at = [node], top
        while groups and groups[-1][1] + _size(groups[-1][0]) > at:
            above, above_at = groups.pop()
            below_at = at - _size(above)
            share = len(above) / (len(above) + len(members))
            at = above_at * share + below_at * (1 - share)
            members = above + members
        groups.append((members, at))
    for members, top in groups:
        below = top
        for node in members:
            node.top = below
            below += node.height + GAP


def _size(nodes: Sequence[Node]) -> float:
    return sum(node.height + GAP for node in nodes)


def _append(layout: Layout, node: Node) -> None:
    """Put a table without references below the shortest column."""
    lowest = [
        max((other.top + other.height + GAP for other in layer), default=0.0)
        for layer in layout.layers
    ]
    node.layer = lowest.index(min(lowest))
    node.top = min(lowest)
    layout.layers[node.layer].append(node)
