"""The storage of pipelines that calls use which name none.

:mod:`prefect_lume.pipelines.helpers` knows these functions by their dotted names only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_lume.config import current

if TYPE_CHECKING:
    from prefect_lume.pipelines import PipelineStorage


def configured_storage() -> PipelineStorage:
    """Return the storage of the current context, which makes it once.

    Raises:
        ConfigurationError: The setting does not name a storage that can be made.
        StorageError: Its database cannot be used; the message says why.
    """
    return current.current_context().pipeline_storage()


def forget_storages() -> None:
    """Let every context make its storage anew when it is next asked for one."""
    for context in current.known_contexts():
        context.forget_pipeline_storage()
