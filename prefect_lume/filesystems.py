"""The storage Block: what Prefect persists goes into the results database."""

# No postponed annotations: Prefect reads a Block's annotations while it is made.

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from prefect._internal.compatibility.async_dispatch import async_dispatch
from prefect.context import FlowRunContext, TaskRunContext
from prefect.filesystems import WritableFileSystem
from prefect.utilities.asyncutils import run_sync_in_worker_thread
from pydantic import Field

from prefect_lume.config import open_context, running_deployment
from prefect_lume.credentials._common import LOGO_URL, documentation_url

# Whoever loads this Block can read what was persisted with the serializer "lume".
from prefect_lume.serializer import LumeSerializer
from prefect_lume.settings import LumeSettings

if TYPE_CHECKING:
    from prefect_lume.results.stored_files import StoredFiles

__all__ = ["LumeResultsStorage", "LumeSerializer"]


class LumeResultsStorage(WritableFileSystem):
    """Keeps what Prefect persists in the results database, for every machine to read.

    Give it to a flow or task as `result_storage`.

    To use it for all of them, name it in `PREFECT_DEFAULT_RESULT_STORAGE_BLOCK`. Every
    process that reaches the results database can read the results, and hits the cache.

    Each path is a document of type `File`, which leads back to the flow run and the
    task run that wrote it. Content past 64 KiB is a blob: stored once however many
    paths hold it, and verified when it is read.

    Example:
        Load a stored storage and let a flow persist its result there:
        ```python
        from prefect import flow
        from prefect_lume.filesystems import LumeResultsStorage

        storage = LumeResultsStorage.load("BLOCK_NAME")

        @flow(persist_result=True, result_storage=storage, result_serializer="lume")
        def orbit() -> list[float]:
            return [0.5, 0.25]
        ```
    """

    _block_type_name: ClassVar[str] = "LUME Results Storage"
    _block_type_slug: ClassVar[str] = "lume-results-storage"
    _logo_url: ClassVar[str] = LOGO_URL  # type: ignore[assignment]  # Prefect: HttpUrl
    _documentation_url: ClassVar[str] = documentation_url(  # type: ignore[assignment]
        "LumeResultsStorage"
    )

    services: str = Field(
        default="",
        title="Services",
        description=(
            "Name of the LUME Services Block that has the results database; empty "
            "means what `PREFECT_LUME_SERVICES` names, else the embedded one."
        ),
    )
    project_name: str = Field(
        default="prefect-results",
        min_length=1,
        title="Project",
        description="Project of the results database that holds the files.",
    )

    async def aread_path(self, path: str) -> bytes:
        """Return what is stored at a path, verified, without blocking the loop."""
        return await run_sync_in_worker_thread(self._read, path)

    @async_dispatch(aread_path)
    def read_path(self, path: str) -> bytes:  # type: ignore[override]  # Both ways.
        """Return what is stored at a path, verified.

        Args:
            path: As it was given to :meth:`write_path`.

        Raises:
            FileMissingError: Nothing is stored there (a ``ValueError``, too).
            InvalidInputError: The path is empty, longer than 1,024 characters or has a
                part ``..``.
            IntegrityError: What is stored is not what was stored once.
            StorageError: The database cannot be reached or refuses.
        """
        return self._read(path)

    async def awrite_path(self, path: str, content: bytes) -> str:
        """Store content at a path without blocking the loop."""
        return await run_sync_in_worker_thread(self._write, path, content)

    @async_dispatch(awrite_path)
    def write_path(self, path: str, content: bytes) -> str:  # type: ignore[override]
        """Store content at a path, in place of what is there.

        Args:
            path: Any path without a part ``..``. The root is the project: a leading
                ``/`` says nothing.
            content: What is stored.

        Returns:
            The path under which it is stored.

        Raises:
            InvalidInputError: As in :meth:`read_path`.
            StorageError: The database cannot be reached or refuses.
        """
        return self._write(path, content)

    async def aupload_from_path(
        self, from_path: str | os.PathLike[str], to_path: str
    ) -> str:
        """Store a file of this machine without blocking the loop."""
        return await run_sync_in_worker_thread(self._upload, from_path, to_path)

    @async_dispatch(aupload_from_path)
    def upload_from_path(self, from_path: str | os.PathLike[str], to_path: str) -> str:
        """Store a file of this machine, whatever its size, in bounded memory.

        Args:
            from_path: The file.
            to_path: Where it is stored.

        Returns:
            The path under which it is stored.

        Raises:
            NotFoundError: This machine has no such file.
            IntegrityError: The file changed meanwhile; nothing was stored.
            StorageError: The database cannot be reached or refuses.
        """
        return self._upload(from_path, to_path)

    async def adownload_to_path(
        self, from_path: str, to_path: str | os.PathLike[str]
    ) -> Path:
        """Write what is stored at a path to a file without blocking the loop."""
        return await run_sync_in_worker_thread(self._download, from_path, to_path)

    @async_dispatch(adownload_to_path)
    def download_to_path(self, from_path: str, to_path: str | os.PathLike[str]) -> Path:
        """Write what is stored at a path to a file of this machine, in bounded memory.

        The file appears when all of it is written and verified.

        Args:
            from_path: Where it is stored.
            to_path: The file, which is replaced if it is there.

        Returns:
            The file that was written.

        Raises:
            FileMissingError: Nothing is stored there.
            IntegrityError: What is stored is not what was stored once.
            StorageError: The database cannot be reached or refuses.
        """
        return self._download(from_path, to_path)

    def _resolve_path(self, path: str) -> str | None:
        # Prefect asks a Block that was never saved; "" asks for the root, which here
        # is no part of a path.
        from prefect_lume.results.stored_files import normal_path

        return normal_path(path) if path else None

    def _files(self) -> "StoredFiles":
        # Late: Prefect imports this module in every process.
        from prefect_lume.results.stored_files import StoredFiles

        context = open_context(self.services or None)
        return StoredFiles(context.results_db_service(), self.project_name)

    def _read(self, path: str) -> bytes:
        return self._files().read(path)

    def _write(self, path: str, content: bytes) -> str:
        return self._files().write(path, content, **_run())

    def _upload(self, from_path: str | os.PathLike[str], to_path: str) -> str:
        return self._files().upload(from_path, to_path, **_run())

    def _download(self, from_path: str, to_path: str | os.PathLike[str]) -> Path:
        return self._files().download(from_path, to_path)


def _run() -> dict[str, Any]:
    """Return what is known of the run that this code is in."""
    known: dict[str, Any] = {
        "deployment_id": running_deployment.get() or LumeSettings.load().deployment_id
    }
    flow_run, task_run = FlowRunContext.get(), TaskRunContext.get()
    if task_run is not None:
        known["task_run_id"] = str(task_run.task_run.id)
        if task_run.task_run.flow_run_id is not None:
            known["flow_run_id"] = str(task_run.task_run.flow_run_id)
    if flow_run is not None and flow_run.flow_run is not None:
        known["flow_id"] = str(flow_run.flow_run.flow_id)
        known["flow_run_id"] = str(flow_run.flow_run.id)
    return known
