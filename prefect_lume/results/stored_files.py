"""Files kept as results: a document per path, the content in a blob."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Final

from prefect_lume.errors import IntegrityError, InvalidInputError, NotFoundError, clip
from prefect_lume.results.codecs import Lazy, StoredBytes
from prefect_lume.results.model_docs import register_document
from prefect_lume.results.result import Result
from prefect_lume.results.service import ResultsService
from prefect_lume.results.stores.toolkit import write_file

#: The longest path of a stored file, in characters.
MAX_PATH: Final = 1024


class FileMissingError(NotFoundError, ValueError):
    """There is no stored file at a path.

    A ``ValueError``, too: that is what Prefect's own filesystems raise.
    """


@register_document
class StoredFile(Result):
    """A file in the results database: ``inputs.path`` and ``outputs.content``.

    It is unique by its path. What it holds is found, exported and removed like any
    other result.

    Attributes:
        task_run_id: Prefect's id of the task run that wrote it, if a task did.

    Example:
        >>> file = StoredFile(project_name="demo", inputs={"path": "a/b"})
        >>> file.type_name, file.unique_on
        ('File', ('inputs.path',))
    """

    result_type: ClassVar[str] = "File"

    unique_on: tuple[str, ...] = ("inputs.path",)
    task_run_id: str | None = None


class StoredFiles:
    """The files of one project in a results database, by their paths.

    Example:
        >>> from prefect_lume.results.stores import SQLDBService
        >>> from prefect_lume.storage.sql import get_engine
        >>> store = SQLDBService(get_engine("sqlite://"))
        >>> store.create_tables()
        >>> files = StoredFiles(ResultsService(store), "demo")
        >>> files.write("/runs//1/beam", b"some bytes")
        'runs/1/beam'
        >>> files.read("runs/1/beam")
        b'some bytes'
    """

    def __init__(self, service: ResultsService, project_name: str) -> None:
        """Keep the database and the project; nothing is connected yet.

        Args:
            service: The results database.
            project_name: The project whose collection holds the files.
        """
        self._service = service
        self._project = project_name

    def write(self, path: str, content: bytes, **run: Any) -> str:
        """Store a file, in place of the one at that path if there is one.

        Args:
            path: Where; see :func:`normal_path`.
            content: What is in it.
            **run: What else is known of it: ``flow_id``, ``flow_run_id``...

        Returns:
            The path under which it is stored.

        Raises:
            InvalidInputError: The path is not allowed.
            StorageError: The database cannot be reached or refuses.
        """
        return self._store(normal_path(path), bytes(content), run)

    def read(self, path: str) -> bytes:
        """Return a file's content, verified.

        Raises:
            FileMissingError: There is no file at that path.
            InvalidInputError: The path is not allowed.
            IntegrityError: What is stored is not what was stored once.
        """
        content = self._content(path)
        return bytes(content.load() if isinstance(content, Lazy) else content)

    def upload(self, from_path: str | os.PathLike[str], path: str, **run: Any) -> str:
        """Store a file of this machine, whatever its size, in bounded memory.

        Args:
            from_path: The file.
            path: Where; see :func:`normal_path`.
            **run: As in :meth:`write`.

        Returns:
            The path under which it is stored.

        Raises:
            NotFoundError: This machine has no such file.
            InvalidInputError: The path is not allowed.
            IntegrityError: The file changed meanwhile; nothing was stored.
        """
        target = normal_path(path)
        blob = self._service.db_service.put_blob_file(from_path)
        return self._store(target, StoredBytes(blob.sha256, blob.size), run)

    def download(self, path: str, to_path: str | os.PathLike[str]) -> Path:
        """Write a stored file to this machine, in bounded memory.

        The folder is made if need be. The file appears when all of it is written and
        verified; a failure leaves what was there before.

        Args:
            path: The stored file's path.
            to_path: The file to write.

        Returns:
            The file that was written, as an absolute path.

        Raises:
            FileMissingError: There is no file at that path.
            IntegrityError: What is stored is not what was stored once.
        """
        content = self._content(path)
        target = Path(to_path).expanduser().absolute()
        if isinstance(content, Lazy):
            target.parent.mkdir(parents=True, exist_ok=True)
            return self._service.db_service.fetch_blob(content.sha256, target)
        return write_file(target, [bytes(content)])

    def _store(self, path: str, content: bytes | StoredBytes, run: Any) -> str:
        file = StoredFile(
            project_name=self._project,
            inputs={"path": path},
            outputs={"content": content},
            **run,
        )
        self._service.store(file, on_duplicate="replace")
        return path

    def _content(self, path: str) -> bytes | Lazy:
        name = normal_path(path)
        wanted = StoredFile(project_name=self._project, inputs={"path": name})
        try:
            found = self._service.load(wanted.reference(), lazy=True)
        except NotFoundError as error:
            raise FileMissingError(
                f"file in the project {self._project!r} with the path", name
            ) from error
        content = found.outputs.get("content")
        if found.inputs.get("path") != name or not isinstance(content, bytes | Lazy):
            raise IntegrityError(
                f"What the project {self._project!r} holds at {clip(repr(name), 120)} "
                f"is not the file that was stored there.",
                self._service.db_service.where,
            )
        return content


def normal_path(path: str) -> str:
    """Return a path in the one form in which files are stored.

    Parts are joined by ``/``. The root is the project: a leading ``/`` says nothing,
    nor do empty parts and ``.``.

    Args:
        path: At most 1,024 characters in normal form.

    Raises:
        InvalidInputError: It is no text, is empty or too long, or has a part ``..``, a
            NUL or half a surrogate pair.

    Example:
        >>> normal_path("/cache//./a b/c")
        'cache/a b/c'
    """
    if not isinstance(path, str):
        raise InvalidInputError(f"A path is text, not {type(path).__name__}.")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    normal = "/".join(parts)
    if not 0 < len(normal) <= MAX_PATH:
        raise InvalidInputError(
            f"A stored file's path has 1 to {MAX_PATH} characters, not {len(normal)}: "
            f"{clip(repr(path), 120)}."
        )
    if ".." in parts:
        raise InvalidInputError(
            f"The path {clip(repr(path), 120)} has a part '..': name the file from the "
            f"storage's root."
        )
    if "\0" in normal or any("\ud800" <= char <= "\udfff" for char in normal):
        raise InvalidInputError(
            f"The path {clip(repr(path), 120)} has a NUL or half a surrogate pair."
        )
    return normal
