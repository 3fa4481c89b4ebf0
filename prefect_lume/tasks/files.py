"""Tasks that save and load files on any Prefect filesystem Block."""

import inspect
import mimetypes
import re
import uuid
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.filesystems import WritableFileSystem
from prefect.utilities.asyncutils import run_coro_as_sync

from prefect_lume._fingerprint import sha256_bytes
from prefect_lume.config import open_context
from prefect_lume.config.wiring import load_filesystem
from prefect_lume.credentials import LumeServices
from prefect_lume.errors import (
    IntegrityError,
    InvalidInputError,
    LumeError,
    NotFoundError,
    StorageError,
    clip,
)
from prefect_lume.results import FileReference
from prefect_lume.results.files import FileFormat, detect_format, from_bytes, to_bytes
from prefect_lume.tasks._references import as_file_reference
from prefect_lume.tasks._run import provenance

_NAME = re.compile(r"[^/\\\0]{1,200}")
# What filesystems that raise no FileNotFoundError say of a missing file.
_ABSENT = re.compile(r"does not exist|no such|not found|NoSuchKey", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\w.\-]+")


@task(name="save_file", cache_policy=NO_CACHE)
def save_file(
    obj: Any,
    name: str,
    *,
    format: FileFormat | None = None,  # noqa: A002 - the word that people look for.
    project_name: str | None = None,
    services: LumeServices | str | None = None,
) -> FileReference:
    """Save a file, and return the small reference that finds it again.

    Args:
        obj: A path (`pathlib.Path`), bytes, or an object of the format: an open
            `h5py.File`, a PIL image, a matplotlib figure or a uint8 array for an image,
            text, plain data for YAML.
        name: The file's name, for example `beam.h5`.
        format: `hdf5`, `image`, `text`, `yaml` or `bytes`; by default told from the
            name and the object.
        project_name: The folder; by default the project of the running flow.
        services: The services Block, its name, or nothing for the default. Its file
            storage may be any Prefect filesystem Block.

    Returns:
        The reference: path, size, SHA-256 and format of the file.

    Raises:
        NotFoundError: There is no file at that path.
        InvalidInputError: The name is not a file name, or the object does not fit the
            format.
        StorageError: The file storage refused it.
    """
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise InvalidInputError(
            f"{clip(repr(name), 80)} is not a file name: give one to 200 characters "
            f"without slashes, for example 'beam.h5'. prefect-lume makes the folders."
        )
    if isinstance(obj, Path) and not obj.is_file():
        raise NotFoundError("file", str(obj), _neighbours(obj))
    chosen = format or detect_format(obj, name)
    content = to_bytes(obj, chosen, name=name)
    digest = sha256_bytes(content)
    context = open_context(services)
    run = provenance(context, project_name)
    folder = _UNSAFE.sub("-", run.project_name).strip("-.") or "project"
    owner = run.flow_run_id or f"no-run-{uuid.uuid4()}"
    path = f"{folder}/{owner}/{digest[:12]}/{name}"
    storage = context.file_storage()
    _write(storage, path, content)
    return FileReference(
        path=path,
        sha256=digest,
        size=len(content),
        format=chosen,
        media_type=mimetypes.guess_type(name)[0] or "application/octet-stream",
        storage=context.services.file_storage,
    )


def _neighbours(path: Path) -> list[str]:
    if not path.parent.is_dir():
        return []
    return sorted(entry.name for entry in path.parent.iterdir())[:50]


# Not persisted: what it returns is in the file storage already.
@task(name="load_file", cache_policy=NO_CACHE, persist_result=False)
def load_file(
    reference: FileReference | dict[str, Any],
    *,
    services: LumeServices | str | None = None,
) -> Any:
    """Load a file that `save_file` saved, as an object of its format.

    The content is checked against the reference's SHA-256 before it is read.

    Args:
        reference: What `save_file` returned, or its JSON form.
        services: The services Block, its name, or nothing for the default.

    Returns:
        For `hdf5` a read-only `h5py.File` in memory, for `image` a PIL image, for
        `text` a string, for `yaml` plain data, else bytes.

    Raises:
        NotFoundError: The file is not in its storage.
        IntegrityError: The file is not the one that was saved.
        InvalidInputError: The reference, or the file's content, cannot be read.
    """
    found = as_file_reference(reference)
    context = open_context(services)
    if found.storage == context.services.file_storage:
        storage = context.file_storage()
    else:
        storage = load_filesystem(found.storage, context.home)
    content = _read(storage, found.path)
    if len(content) != found.size or sha256_bytes(content) != found.sha256:
        raise IntegrityError(
            f"The file {found.path!r} is not the one that was saved: it has "
            f"{len(content)} bytes with another SHA-256 than {found.sha256[:12]}… "
            f"({found.size} bytes). Restore it from a backup, or run the flow again.",
            found.storage,
        )
    return from_bytes(content, found.format)


def _write(storage: WritableFileSystem, path: str, content: bytes) -> None:
    try:
        _call(storage.write_path, path, content)
    except LumeError:
        raise
    except Exception as error:
        raise StorageError(
            f"{type(storage).__name__} did not save {path!r}: {clip(error)}"
        ) from error


def _read(storage: WritableFileSystem, path: str) -> bytes:
    try:
        return bytes(_call(storage.read_path, path))
    except LumeError:
        raise
    except Exception as error:
        kind = type(storage).__name__
        if isinstance(error, FileNotFoundError) or _ABSENT.search(str(error)):
            raise NotFoundError("file", path, hint=f"{kind}: {clip(error)}") from error
        raise StorageError(f"{kind} did not read {path!r}: {clip(error)}") from error


def _call(method: Any, *arguments: Any) -> Any:
    """Call a filesystem's method synchronously, whichever way it is written.

    Prefect's own methods return a coroutine inside an async flow unless they are told
    not to; a third party's may be plain functions, or async ones.
    """
    if hasattr(method, "aio"):
        return method(*arguments, _sync=True)
    answer = method(*arguments)
    return run_coro_as_sync(answer) if inspect.iscoroutine(answer) else answer
