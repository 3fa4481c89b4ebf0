"""Name, version and entry points of a package, from its metadata files."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from configparser import ConfigParser
from configparser import Error as ConfigError
from dataclasses import dataclass
from email.parser import HeaderParser
from typing import Any

from prefect_lume.errors import PackageError, clip, name_list
from prefect_lume.packages.code import ModuleSource
from prefect_lume.packages.layout import (
    GROUP,
    LAYOUT,
    checked_name,
    checked_version,
)
from prefect_lume.packages.trees import Tree

_VERSION_FILES = ("__init__.py", "_version.py", "__about__.py", "version.py")


@dataclass(frozen=True)
class Metadata:
    """What a package says of itself.

    Attributes:
        name: The project's name.
        version: Its version.
        import_name: The package that is imported.
        root: The folder below the source's root that goes on ``sys.path``: "" or
            "src/".
        flow: The value of the entry point ``<package>.flow``.
        model: The value of the entry point ``<package>.model``, or ``None``.
        project: The ``[project]`` table of pyproject.toml, if there is one.
    """

    name: str
    version: str
    import_name: str
    root: str
    flow: str
    model: str | None
    project: Mapping[str, Any]


@dataclass(frozen=True)
class _Built:
    """What a build has written: of the wheel, or of the sdist."""

    where: str
    headers: str
    entry_points: str

    def header(self, name: str) -> str | None:
        return HeaderParser().parsestr(self.headers).get(name)

    def entries(self) -> dict[str, str]:
        parser = ConfigParser(delimiters=("=",), interpolation=None, strict=True)
        parser.optionxform = str  # type: ignore[assignment,method-assign] # as documented
        try:
            parser.read_string(self.entry_points)
        except ConfigError as exc:
            reason = clip(str(exc).splitlines()[0], 120)
            raise PackageError(
                f"{self.where}: its entry_points.txt is not valid: {reason}."
            ) from exc
        return dict(parser.items(GROUP)) if parser.has_section(GROUP) else {}


def read_metadata(tree: Tree) -> Metadata:
    """Return what a package source says of itself.

    Raises:
        PackageError: Something is missing, wrong or says two things.
    """
    project = {} if tree.kind == "wheel" else _project(tree)
    built = _built(tree)
    entries = _entries(project, built)
    import_name, flow, model = _orchestration(tree, entries)
    root = _root(tree, import_name)
    name = project.get("name") or built.header("Name")
    if not isinstance(name, str):
        raise PackageError(
            f"{tree.where} does not say its name: there is no pyproject.toml with a "
            "[project] table, and no PKG-INFO or METADATA. If it has a setup.py only, "
            "build an sdist first (python -m build --sdist)."
        )
    version = _version(tree, project, built, f"{root}{import_name.replace('.', '/')}")
    return Metadata(
        name=checked_name(name, tree.where),
        version=checked_version(version, tree.where),
        import_name=import_name,
        root=root,
        flow=flow,
        model=model,
        project=project,
    )


def _project(tree: Tree) -> dict[str, Any]:
    text = tree.text("pyproject.toml")
    if text is None:
        return {}
    try:
        project = tomllib.loads(text).get("project", {})
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise PackageError(
            f"{tree.where}: pyproject.toml is not valid TOML: {clip(exc, 120)}."
        ) from exc
    if not isinstance(project, dict):
        raise PackageError(f"{tree.where}: [project] in pyproject.toml is no table.")
    return project


def _built(tree: Tree) -> _Built:
    if tree.kind == "wheel":
        folders = [
            name.removesuffix("/METADATA")
            for name in tree.matching("*.dist-info/METADATA")
            if name.count("/") == 1
        ]
        if len(folders) != 1:
            raise PackageError(
                f"{tree.where} is not a wheel: it must hold one '*.dist-info/METADATA'."
            )
        headers = tree.text(f"{folders[0]}/METADATA")
        entry_points = tree.text(f"{folders[0]}/entry_points.txt")
    else:
        headers = tree.text("PKG-INFO") or _egg_info(tree, "PKG-INFO")
        entry_points = _egg_info(tree, "entry_points.txt")
    return _Built(tree.where, headers or "", entry_points or "")


def _egg_info(tree: Tree, file: str) -> str | None:
    for name in tree.matching(f"*.egg-info/{file}"):
        if name.removeprefix("src/").count("/") == 1:
            return tree.text(name)
    return None


def _entries(project: Mapping[str, Any], built: _Built) -> dict[str, str]:
    groups = project.get("entry-points", {})
    stated = groups.get(GROUP, {}) if isinstance(groups, dict) else {}
    if isinstance(stated, dict) and stated:
        return {str(name): str(value) for name, value in stated.items()}
    return built.entries()


def _orchestration(
    tree: Tree, entries: Mapping[str, str]
) -> tuple[str, str, str | None]:
    found = {
        name.removesuffix(".flow"): value
        for name, value in entries.items()
        if name.endswith(".flow")
    }
    if len(found) != 1:
        many = f"several: {name_list(entries)}" if found else "none"
        raise PackageError(
            f"{tree.where} must have one entry point '<package>.flow' in the group "
            f"{GROUP!r}, and has {many}. {LAYOUT}"
        )
    [(prefix, flow)] = found.items()
    import_name = prefix.replace("-", "_")
    if not all(step.isidentifier() for step in import_name.split(".")):
        raise PackageError(
            f"{tree.where}: the entry point {clip(prefix, 80) + '.flow'!r} does not "
            f"begin with the name of a package. {LAYOUT}"
        )
    return import_name, flow, entries.get(f"{prefix}.model")


def _root(tree: Tree, import_name: str) -> str:
    folder = import_name.replace(".", "/")
    for root in ("",) if tree.kind == "wheel" else ("", "src/"):
        if any(name.startswith(f"{root}{folder}/") for name in tree.names):
            return root
    raise PackageError(
        f"{tree.where} holds no package {folder!r}, which its entry point "
        f"'{import_name}.flow' names; it must be at the root or in src/. {LAYOUT}"
    )


def _version(
    tree: Tree, project: Mapping[str, Any], built: _Built, package: str
) -> str:
    stated = project.get("version") or built.header("Version")
    if isinstance(stated, str):
        return stated
    for file in _VERSION_FILES:
        path = f"{package}/{file}"
        text = tree.text(path)
        if text is None:
            continue
        version = ModuleSource(f"{tree.where}: {path}", text).plain("__version__")
        if version is not None:
            return version
    raise PackageError(
        f"{tree.where} does not say its version: write it in pyproject.toml "
        f"([project] version), or as __version__ = '...' in {package}/__init__.py."
    )
