"""The status rules of pipelines once more, as a small model to test storages against.

It knows nothing of times, transactions or recorders: a tree of objects, and one report
after the other. What it says, every storage has to say after the same reports.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from prefect_lume.pipelines import PipelineTaskStatus
from prefect_lume.pipelines.base import PipelineStorage, PipelineStorageObject
from prefect_lume.pipelines.rows import Kind

_S = PipelineTaskStatus
_RANK = {_S.PENDING: 0, _S.RUNNING: 1}
_FAILURES = (_S.CONFIG_ERROR, _S.VALIDATION_ERROR, _S.RUNTIME_ERROR, _S.CANCELLED)


@dataclass(eq=False)
class Node:
    """An object of the model."""

    id: str
    kind: Kind
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    status: PipelineTaskStatus = _S.PENDING
    message: str | None = None
    told_done: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it has a final status."""
        return self.status not in _RANK

    def above(self) -> Iterator[Node]:
        """Yield what lies above, the nearest first."""
        if self.parent is not None:
            yield self.parent
            yield from self.parent.above()

    def below(self) -> Iterator[Node]:
        """Yield all that lies below."""
        for child in self.children:
            yield child
            yield from child.below()


class StatusModel:
    """All objects of one run that was built as a whole.

    Args:
        storage: The storage in which the run was built.
        run_id: The run's id.
    """

    def __init__(self, storage: PipelineStorage, run_id: str) -> None:
        self.storage = storage
        self.run_id = run_id
        self.nodes: dict[str, Node] = {run_id: Node(run_id, Kind.EXECUTION)}
        for kind in (Kind.RESULT, Kind.TASK_EXECUTION, Kind.TASK_RESULT):
            for row in storage.find(kind, {"run_id": run_id}):
                parent = self.nodes[row.parent_id or ""]
                node = self.nodes[row.id] = Node(row.id, kind, parent)
                parent.children.append(node)

    def get_object(self, node: Node) -> PipelineStorageObject:
        """Return the storage's object for a node.

        Raises:
            LookupError: The storage has it no more.
        """
        found: PipelineStorageObject | None = {
            Kind.EXECUTION: self.storage.get_pipeline_execution,
            Kind.RESULT: self.storage.get_pipeline_result,
            Kind.TASK_EXECUTION: self.storage.get_task_execution,
            Kind.TASK_RESULT: self.storage.get_task_result,
        }[node.kind](node.id)
        if found is None:
            raise LookupError(node.id)
        return found

    def report(self, node: Node, status: PipelineTaskStatus, message: str) -> bool:
        """Report a status to the model; return whether it is an advance."""
        if node.is_over or _RANK.get(status, 2) <= _RANK[node.status]:
            return False
        node.message = message
        if status in _FAILURES:
            self._fail(node, status, message)
        else:
            for each in (node, *node.above()):
                if each.status is _S.PENDING:
                    each.status = _S.RUNNING
            node.told_done = node.told_done or status is _S.DONE
            self._finish(node)
        return True

    @staticmethod
    def _fail(node: Node, status: PipelineTaskStatus, message: str) -> None:
        for each in (node, *node.above()):
            if not each.is_over:
                each.status, each.message = status, message
        if status in (_S.CONFIG_ERROR, _S.VALIDATION_ERROR):
            for each in node.below():
                if not each.is_over:
                    each.status, each.message = _S.CANCELLED, None

    @staticmethod
    def _finish(node: Node) -> None:
        for each in (node, *node.above()):
            # A parent that was built with its children has no more to come.
            told = each.told_done or bool(each.children)
            if each.is_over or not told:
                break
            if any(child.status is not _S.DONE for child in each.children):
                break
            each.status = _S.DONE

    def check(self) -> None:
        """Compare the storage with the model, and check what no model is needed for.

        Raises:
            AssertionError: The storage says otherwise.
        """
        found = {
            row.id: row
            for kind in Kind
            for row in self.storage.find(
                kind,
                {"id" if kind is Kind.EXECUTION else "run_id": self.run_id},
            )
        }
        assert found.keys() == self.nodes.keys()
        said = {id_: row.status for id_, row in found.items()}
        assert said == {id_: node.status for id_, node in self.nodes.items()}
        for id_, node in self.nodes.items():
            row = found[id_]
            if node.is_over and node.status is not _S.DONE and node.message is not None:
                assert row.message == node.message
            assert (row.completed is not None) is node.is_over
            if node.status in (_S.RUNNING, _S.DONE):
                assert row.started is not None
            if node.status is _S.PENDING:
                assert row.started is None
            if row.started is not None and row.completed is not None:
                assert row.started <= row.completed
            if node.parent is not None and row.started is not None:
                above = found[node.parent.id]
                if above.started is not None:
                    assert above.started <= row.started
                else:
                    # It had failed before anything below it began.
                    assert above.completed is not None
                    assert above.completed < row.started
