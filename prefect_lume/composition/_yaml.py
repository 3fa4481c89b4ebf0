"""Plain data from YAML, with the line of every value, and bounded in every way.

Scalars follow the core schema of YAML 1.2: ``1e-3`` is a number, ``on`` and ``no``
are text and dates stay text. Only JSON's types come out.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from prefect_lume.composition.lines import LineMap, Path, problem_at
from prefect_lume.errors import Problem, clip

#: A file larger than this is not read.
MOST_BYTES: Final = 1 << 20
#: No more values than this, aliases followed, and no deeper nesting.
MOST_VALUES: Final = 200_000
MOST_DEPTH: Final = 100
_MOST_DIGITS: Final = 4000

_TAG: Final = "tag:yaml.org,2002:"
_SCALARS: Final = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        (
            r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
        ),
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
)


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's scalars, which does not nest without end."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"it is nested deeper than {MOST_DEPTH} levels",
                problem_mark=self.get_mark(),
            )
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


class Dumper(yaml.SafeDumper):
    """The safe dumper; it quotes what either version of YAML would not read as text."""


def _text(dumper: Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes Unicode's own line breaks as they are and reads them as spaces.
    plain = text.replace("\n", "").isprintable()
    return dumper.represent_scalar(_TAG + "str", text, style=None if plain else '"')


Dumper.add_representer(str, _text)

# Not those of YAML 1.1, which the safe loader has.
_Loader.yaml_implicit_resolvers = {}
for _name, _pattern, _first in _SCALARS:
    _regex = re.compile(f"(?:{_pattern})\\Z")
    _Loader.add_implicit_resolver(_TAG + _name, _regex, _first)
    Dumper.add_implicit_resolver(_TAG + _name, _regex, _first)


@dataclass
class _Reader:
    """Turns nodes into plain data and notes lines and problems on the way."""

    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    values: int = 0
    full: bool = False

    def wrong(self, node: yaml.Node, path: Path, message: str) -> None:
        where = LineMap({path: node.start_mark.line + 1})
        self.problems.append(problem_at(path, message, where))

    def read(self, node: yaml.Node, path: Path) -> Any:
        self.values += 1
        if self.full or self.values > MOST_VALUES or len(path) > MOST_DEPTH:
            if not self.full:
                self.wrong(
                    node,
                    (),
                    f"It holds more than {MOST_VALUES} values or {MOST_DEPTH} levels, "
                    "aliases followed.",
                )
            self.full = True
            return None
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            self.check_tag(node, path, "seq")
            return [self.read(item, (*path, i)) for i, item in enumerate(node.value)]
        return self.scalar(node, path)

    def check_tag(self, node: yaml.Node, path: Path, expected: str) -> None:
        if node.tag != _TAG + expected:
            tag = node.tag.replace(_TAG, "!!")
            self.wrong(node, path, f"The tag {clip(tag, 60)!r} is not allowed.")

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        self.check_tag(node, path, "map")
        found: dict[str, Any] = {}
        merged: list[tuple[yaml.Node, yaml.Node]] = []
        first: dict[str, int] = {}
        for key, value in node.value:
            if self.full:
                break
            if key.tag == _TAG + "merge":
                merged.extend(self.merged(value, path))
                continue
            name = self.key(key, path)
            if name is None:
                continue
            line = key.start_mark.line + 1
            if name in first:
                self.wrong(
                    key,
                    (*path, name),
                    f"The key {clip(name, 60)!r} is there twice, first on line "
                    f"{first[name]}.",
                )
                continue
            first[name] = line
            self.lines[*path, name] = line
            found[name] = self.read(value, (*path, name))
        for key, value in merged:
            name = None if self.full else self.key(key, path)
            if name is not None and name not in found:
                found[name] = self.read(value, (*path, name))
        return found

    def merged(self, node: yaml.Node, path: Path) -> list[tuple[yaml.Node, yaml.Node]]:
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        pairs: list[tuple[yaml.Node, yaml.Node]] = []
        for item in nodes:
            if isinstance(item, yaml.MappingNode):
                pairs.extend(item.value)
            else:
                self.wrong(node, path, "'<<' takes a mapping or a list of mappings.")
        return pairs

    def key(self, node: yaml.Node, path: Path) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "str":
            return str(node.value)
        shown = node.value if isinstance(node, yaml.ScalarNode) else "a collection"
        self.wrong(
            node, path, f"A key must be text: put {clip(shown, 60)!r} in quotes."
        )
        return None

    def scalar(self, node: yaml.Node, path: Path) -> Any:
        text, kind = str(node.value), node.tag.removeprefix(_TAG)
        try:
            return _scalar(kind, text)
        except KeyError:
            self.check_tag(node, path, "str")
        except ValueError as exc:
            self.wrong(node, path, str(exc))
        return None


def _scalar(kind: str, text: str) -> Any:
    if kind in {"str", "merge"}:
        return text
    if kind == "null":
        return None
    if kind == "bool":
        if text.lower() not in {"true", "false"}:
            raise ValueError(f"{clip(text, 40)!r} is not true or false.")
        return text.lower() == "true"
    if kind == "int":
        if len(text) > _MOST_DIGITS:
            raise ValueError(f"A number of {len(text)} digits is not allowed.")
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text, base)
    if kind == "float":
        plain = text.lower().replace(".inf", "inf").replace(".nan", "nan")
        number = float(plain)
        if not math.isfinite(number):
            raise ValueError(f"{text} has no JSON form and cannot be a parameter.")
        return number
    raise KeyError(kind)


def _syntax(exc: yaml.YAMLError) -> Problem:
    if isinstance(exc, yaml.MarkedYAMLError):
        mark = exc.problem_mark or exc.context_mark
        what = " ".join(filter(None, (exc.context, exc.problem)))
        message = f"This is not valid YAML: {clip(what)}."
        return Problem(message, "", mark.line + 1 if mark else None)
    return Problem(f"This is not valid YAML: {clip(str(exc).splitlines()[0])}.")


def read_yaml(text: str, source: str) -> tuple[Any, LineMap, list[Problem]]:
    """Return the one document of a YAML text, its lines, and what is wrong with it.

    Args:
        text: The YAML.
        source: What to call it in messages.

    Returns:
        Plain data (``None`` when the YAML cannot be read at all), the line of every
        value, and the problems found.
    """
    if len(text) > MOST_BYTES:
        problem = Problem(f"It is larger than {MOST_BYTES >> 20} MB.")
        return None, LineMap({}, source), [problem]
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as exc:
        return None, LineMap({}, source), [_syntax(exc)]
    finally:
        if loader is not None:
            loader.dispose()
    if node is None:
        return None, LineMap({}, source), [Problem("It is empty.")]
    reader = _Reader()
    tree = reader.read(node, ())
    return tree, LineMap(reader.lines, source), reader.problems
