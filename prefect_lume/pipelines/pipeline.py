"""A pipeline as a storage needs to know it, to make its objects before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect_lume.pipelines.jsonable import jsonable


@dataclass(frozen=True, slots=True)
class PipelineTask:
    """A task of a pipeline.

    Attributes:
        pipeline_task: The task's name in the pipeline.
        task_id: What identifies the task; its name, if left empty.
        config: Its configuration.
        objects: What it is mapped over; nothing if it runs once.
    """

    pipeline_task: str
    task_id: str = ""
    config: dict[str, Any] = field(default_factory=dict)
    objects: Sequence[Any] | None = None

    def get_iterator(self) -> Iterable[Any] | None:
        """Return the objects that it is mapped over, or nothing."""
        return self.objects

    def get_serializable_task_object(self, obj: Any) -> Any:
        """Return one of its objects as JSON."""
        return jsonable(obj)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline: its id, its tasks, and what it is run over.

    Attributes:
        id: The pipeline's id: the flow's name.
        tasks: Its tasks, as far as they are known before it runs.
        objects: What it is mapped over; nothing if it runs once.

    Example:
        >>> Pipeline("scan", [PipelineTask("track")], objects=[1, 2]).get_iterator()
        [1, 2]
    """

    id: str
    tasks: Sequence[PipelineTask] = ()
    objects: Sequence[Any] | None = None

    def get_iterator(self) -> Iterable[Any] | None:
        """Return the objects that it is mapped over, or nothing."""
        return self.objects

    def get_serializable_pipeline_object(self, obj: Any) -> Any:
        """Return one of its objects as JSON."""
        return jsonable(obj)
