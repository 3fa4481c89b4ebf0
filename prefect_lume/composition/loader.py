"""Read a specification from YAML or plain data, and write it back."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import yaml

from prefect_lume.composition._translate import kind_of
from prefect_lume.composition._yaml import MOST_BYTES, Dumper, read_yaml
from prefect_lume.composition.lines import LineMap, refuse
from prefect_lume.composition.spec import FlowOfFlowsSpec
from prefect_lume.errors import (
    CompositionError,
    InvalidInputError,
    NotFoundError,
    Problem,
)


def spec_from_mapping(
    mapping: object, lines: LineMap | None = None, source: str = ""
) -> FlowOfFlowsSpec:
    """Return the specification that plain data describes.

    Args:
        mapping: A mapping with the keys of the YAML format.
        lines: The lines of the file that it was read from, for messages.
        source: What to call it in messages.

    Raises:
        CompositionError: Naming every problem at once.

    Example:
        >>> spec_from_mapping(
        ...     {"name": "a", "project_name": "p", "composing_flows": [{"name": "b"}]}
        ... ).composing_flows[0].project_name
        'p'
    """
    if not isinstance(mapping, Mapping):
        message = f"A flow-of-flows is a mapping with a name, not {kind_of(mapping)}."
        line = lines.at(()) if lines else None
        raise CompositionError([Problem(message, "", line)], source)
    context = {"lines": lines, "source": source}
    spec = FlowOfFlowsSpec.model_validate(dict(mapping), context=context)
    spec._lines = lines
    return spec


def load_yaml(
    source: str | os.PathLike[str] | IO[str] | IO[bytes],
) -> FlowOfFlowsSpec:
    """Read a specification from a YAML file, text or stream.

    The lines stay with the specification (``spec.lines``), so that what is found
    wrong later can name them too.

    Args:
        source: A path; or YAML text (a string with more than one line, or one that
            starts with ``{``); or an open file.

    Raises:
        NotFoundError: There is no such file.
        InvalidInputError: The path is not a file that can be read.
        CompositionError: Naming every problem at once, each with its line.

    Example:
        >>> spec = load_yaml('''
        ... name: chain
        ... project_name: test
        ... composing_flows:
        ...   - name: first
        ...   - name: second
        ... ''')
        >>> spec.positions()
        {'first': 1, 'second': 2}
    """
    text, name = _text_of(source)
    tree, lines, problems = read_yaml(text, name)
    if problems:
        if isinstance(tree, Mapping):
            try:
                spec_from_mapping(tree, lines, name)
            except CompositionError as exc:
                problems = [*problems, *exc.problems]
        raise refuse(problems, name)
    return spec_from_mapping(tree, lines, name)


def dump_yaml(spec: FlowOfFlowsSpec) -> str:
    """Return a specification as YAML that :func:`load_yaml` reads back.

    Example:
        >>> text = dump_yaml(FlowOfFlowsSpec(
        ...     name="a", project_name="p", composing_flows=[{"name": "b"}]
        ... ))
        >>> print(text, end="")
        name: a
        project_name: p
        composing_flows:
        - name: b
          project_name: p
    """
    return yaml.dump(
        spec.to_mapping(), Dumper=Dumper, sort_keys=False, allow_unicode=True
    )


def _text_of(source: str | os.PathLike[str] | IO[str] | IO[bytes]) -> tuple[str, str]:
    if isinstance(source, str) and ("\n" in source or source.lstrip()[:1] == "{"):
        return source, "The YAML text"
    if isinstance(source, str | os.PathLike):
        return _decoded(_read(Path(source)), str(source)), str(source)
    if not hasattr(source, "read"):
        raise InvalidInputError(
            f"A flow-of-flows is read from a path, text or open file, not from "
            f"{kind_of(source)}."
        )
    name = str(getattr(source, "name", "The YAML stream"))
    content = source.read(MOST_BYTES + 1)
    return (content if isinstance(content, str) else _decoded(content, name)), name


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MOST_BYTES + 1)
    except FileNotFoundError as exc:
        folder = path.parent
        known = (
            [e.name for e in folder.iterdir() if e.suffix in {".yaml", ".yml"}]
            if folder.is_dir()
            else []
        )
        lack = "" if known else "holds no YAML file"
        lack = lack if folder.is_dir() else "does not exist"
        hint = f"The folder is {str(folder)!r}" + (f" and {lack}." if lack else ".")
        raise NotFoundError("flow-of-flows file", path.name, known, hint) from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise InvalidInputError(
            f"The flow-of-flows file {str(path)!r} cannot be read: {reason}."
        ) from exc


def _decoded(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        problem = Problem("The file is not UTF-8 text.", "", line)
        raise CompositionError([problem], name) from exc
