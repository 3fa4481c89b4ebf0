"""Inspect a model package without running it, and unpack it safely."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from prefect_lume._fingerprint import sha256_stream
from prefect_lume.errors import IntegrityError, PackageError, clip, name_list
from prefect_lume.packages.archives import Kind, Limits, members
from prefect_lume.packages.code import ModuleSource
from prefect_lume.packages.layout import LAYOUT
from prefect_lume.packages.metadata import Metadata, read_metadata
from prefect_lume.packages.trees import (
    Tree,
    archive_tree,
    directory_tree,
    sha256_directory,
    source_files,
)

_ENTRY: Final = re.compile(r"\s*([\w.]+)\s*(?::\s*([\w.]+))?\s*(?:\[.*\])?\s*")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")


@dataclass(frozen=True)
class PackageSource:
    """What a model package says of itself, found without running it.

    Attributes:
        kind: ``"directory"``, ``"sdist"`` or ``"wheel"``.
        uri: Where it is: an absolute ``file://`` URI.
        sha256: The hash of the archive; of a directory, the hash of its source
            files' paths and contents.
        name: The project's name.
        version: Its version.
        import_name: The package that is imported.
        image: The container image that ``_image.py`` names, or ``None``.
        environment: The text of ``environment.yml``, or ``None``.
        flow_entrypoints: Flow name → ``"module:attribute"``.
        model_entrypoint: ``"module:attribute"`` of the model, or ``None``.
    """

    kind: Kind
    uri: str
    sha256: str
    name: str
    version: str
    import_name: str
    image: str | None = None
    environment: str | None = field(default=None, repr=False)
    flow_entrypoints: dict[str, str] = field(default_factory=dict)
    model_entrypoint: str | None = None

    @property
    def path(self) -> Path:
        """The file or directory."""
        return local_path(self.uri)


def local_path(uri: str | os.PathLike[str]) -> Path:
    """Return the absolute path that a path or ``file://`` URI names.

    Raises:
        PackageError: It is somewhere else.

    Example:
        >>> local_path("file:///opt/my%20model").as_posix()
        '/opt/my model'
    """
    text = os.fspath(uri)
    scheme = _SCHEME.match(text)
    if isinstance(uri, os.PathLike) or scheme is None:
        return Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100 - keeps links
    if scheme[1].lower() != "file":
        raise PackageError(
            f"{_shown(text)} is not on this machine. Download the package first, and "
            "give the path of the sdist, wheel or directory."
        )
    parts = urlsplit(text)
    if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise PackageError(
            f"{_shown(text)} is not a local file: write file:///absolute/path."
        )
    return Path(url2pathname(parts.path))


def _shown(uri: str) -> str:
    # What stands before "@", and a query, may hold a password.
    plain = re.sub(r"//[^/@]*@", "//", uri.partition("?")[0])
    return clip(repr(plain), 200)


def inspect_source(
    uri: str | os.PathLike[str], *, limits: Limits | None = None
) -> PackageSource:
    """Return what a model package says of itself, without running any of its code.

    Args:
        uri: A directory, an sdist (``.tar.gz``) or a wheel (``.whl``): a path or a
            ``file://`` URI.
        limits: How much an archive may hold.

    Raises:
        PackageError: It is not there, not on this machine, or not a model package; the
            message says what is missing.
    """
    path = local_path(uri)
    if path.is_dir():
        tree, digest = directory_tree(path), sha256_directory(path)
    else:
        kind = _kind(path)
        with _opened(path) as stream:
            digest = sha256_stream(stream)
            stream.seek(0)
            tree = archive_tree(stream, kind, str(path), limits or Limits())
    metadata = read_metadata(tree)
    package = f"{metadata.root}{metadata.import_name.replace('.', '/')}"
    environment = tree.text("environment.yml")
    if environment is None:
        environment = tree.text(f"{package}/environment.yml")
    return PackageSource(
        kind=tree.kind,
        uri=path.as_uri(),
        sha256=digest,
        name=metadata.name,
        version=metadata.version,
        import_name=metadata.import_name,
        image=_image(tree, f"{package}/_image.py"),
        environment=environment,
        flow_entrypoints=_flows(tree, metadata),
        model_entrypoint=_model(tree, metadata),
    )


def _kind(path: Path) -> Kind:
    name = path.name.lower()
    if name.endswith((".tar.gz", ".tgz")):
        return "sdist"
    if name.endswith(".whl"):
        return "wheel"
    if not path.exists():
        raise _missing(path)
    raise PackageError(
        f"{path} is neither a directory nor an sdist (.tar.gz) nor a wheel (.whl). "
        f"{LAYOUT}"
    )


def _missing(path: Path) -> PackageError:
    siblings = []
    if path.parent.is_dir():
        siblings = [
            entry.name
            for entry in path.parent.iterdir()
            if entry.name.endswith((".tar.gz", ".whl")) or entry.is_dir()
        ]
    return PackageError(
        f"There is no package source {str(path)!r}. Its folder holds: "
        f"{name_list(siblings)}."
    )


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        stream = path.open("rb")
    except FileNotFoundError as exc:
        raise _missing(path) from exc
    except OSError as exc:
        raise PackageError(f"{path} cannot be read: {exc.strerror}.") from exc
    with stream:
        yield stream


def _image(tree: Tree, path: str) -> str | None:
    text = tree.text(path)
    if text is None:
        return None
    return ModuleSource(f"{tree.where}: {path}", text).literal("IMAGE")


def _entry(tree: Tree, name: str, value: str) -> tuple[str, str | None]:
    match = _ENTRY.fullmatch(value)
    if match is None:
        raise PackageError(
            f"{tree.where}: the entry point {name!r} is {clip(repr(value), 80)}. Write "
            "'package.module:attribute', or 'package.module' for all flows of a module."
        )
    return match[1], match[2]


def _module(tree: Tree, metadata: Metadata, name: str, module: str) -> ModuleSource:
    path = f"{metadata.root}{module.replace('.', '/')}"
    for file in (f"{path}.py", f"{path}/__init__.py"):
        text = tree.text(file)
        if text is not None:
            return ModuleSource(f"{tree.where}: {file}", text)
    raise PackageError(
        f"{tree.where}: the entry point {name!r} names the module {module!r}, and "
        f"there is no {path}.py in the package. {LAYOUT}"
    )


def _flows(tree: Tree, metadata: Metadata) -> dict[str, str]:
    name = f"{metadata.import_name}.flow"
    module, attribute = _entry(tree, name, metadata.flow)
    source = _module(tree, metadata, name, module)
    defined = source.flows()
    if attribute is None:
        if not defined:
            raise PackageError(
                f"{source.where} defines no flow, and the entry point {name!r} offers "
                "all flows that it defines. Decorate a function with @flow."
            )
        return {flow: f"{module}:{found}" for flow, found in defined.items()}
    for flow, found in defined.items():
        if found == attribute:
            return {flow: f"{module}:{attribute}"}
    # Imported from elsewhere, or made by a call: its name is Prefect's default.
    return {attribute.replace("_", "-"): f"{module}:{attribute}"}


def _model(tree: Tree, metadata: Metadata) -> str | None:
    if metadata.model is None:
        return None
    name = f"{metadata.import_name}.model"
    module, attribute = _entry(tree, name, metadata.model)
    _module(tree, metadata, name, module)
    if attribute is None:
        raise PackageError(
            f"{tree.where}: the entry point {name!r} must name a class: write "
            f"'{module}:<class>'."
        )
    return f"{module}:{attribute}"


def unpack(
    source: PackageSource,
    into: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    limits: Limits | None = None,
) -> Path:
    """Unpack a package, once, and return the folder to put on ``sys.path``.

    The folder's name holds the hash, so two sources never share one and a second call
    does nothing. It appears complete or not at all.

    Args:
        source: The package.
        into: The folder to unpack below; it is made if it is not there.
        sha256: The hash that the source must have; ``source.sha256`` by default.
        limits: How much an archive may hold.

    Raises:
        IntegrityError: The source is not what its hash says.
        PackageError: It cannot be unpacked safely.
    """
    expected = sha256 or source.sha256
    label = f"{source.import_name}-{source.version}-{expected[:12]}"
    below = Path(into).absolute()
    folder = below / label.replace(os.sep, "_")
    below.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".unpack-", dir=below))
    try:
        if source.kind == "directory":
            _copy(source.path, made)
            _verify(sha256_directory(made), expected, source)
        else:
            with _opened(source.path) as stream:
                _verify(sha256_stream(stream), expected, source)
                stream.seek(0)
                if not folder.is_dir():
                    _extract(stream, source, made, limits or Limits())
        if not folder.is_dir():
            _rename(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    package = source.import_name.replace(".", "/")
    inner = folder / "src"
    return inner if (inner / package).is_dir() else folder


def _verify(found: str, expected: str, source: PackageSource) -> None:
    if found != expected:
        raise IntegrityError(
            f"{source.uri} is not the package that was registered: its SHA-256 is "
            f"{found}, and {expected} was expected. Nothing was unpacked.",
            source.uri,
        )


def _copy(root: Path, into: Path) -> None:
    if not root.is_dir():
        raise _missing(root)
    for name in source_files(root):
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target)


def _extract(
    stream: BinaryIO, source: PackageSource, into: Path, limits: Limits
) -> None:
    for member in members(stream, source.kind, str(source.path), limits):
        target = into / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            for chunk in member.chunks():
                file.write(chunk)
        if member.executable:
            target.chmod(0o755)


def _rename(made: Path, folder: Path) -> None:
    # mkdtemp keeps others out; a package may be read by who runs it.
    made.chmod(0o755)
    try:
        made.rename(folder)
    except OSError:
        # Another process was first: it unpacked the same content.
        if not folder.is_dir():
            raise
