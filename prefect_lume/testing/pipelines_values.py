"""Part of the contract of a pipelines storage: values come back as they were."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from prefect_lume.errors import InvalidInputError
from prefect_lume.pipelines import Pipeline, PipelineStorage, PipelineTask
from prefect_lume.testing.pipelines_objects import one_of_each
from prefect_lume.testing.pipelines_told import at, flow_run, task_run, tell

#: JSON that databases like to change.
TREES: tuple[Any, ...] = (
    {},
    [],
    "",
    0,
    False,
    {"ints": [0, 1, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**70]},
    {"floats": [1.0, -0.5, 1e300, 5e-324, 0.1 + 0.2, 1e16, 123456789.0]},
    {"texts": ["", " a ", "é", "🌌", '"\\', "\u2028", "\n\r\t", "a" * 5_000]},
    {"others": [None, True, False, {}, [], [[]], [{}]]},
    {"a.b": 1, "$x": {"$where": 2}, "": 3, "é": 4, " ": 5, "0": 6, "_id": 7},
    {"b": 1, "a": 2, "deep": {"a": [{"b": [{"c": [[[1]]]}]}]}},
)


def _typed(value: Any) -> Any:
    """Return JSON in which 1, 1.0 and true differ."""
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_typed(item) for item in value]
    return type(value).__name__, value


class ValuesContract:
    """What every pipelines storage promises of the values that it is given."""

    @pytest.mark.parametrize("tree", TREES, ids=lambda tree: repr(tree)[:20])
    def test_json_comes_back_exactly(self, storage: PipelineStorage, tree: Any) -> None:
        """Objects, parameters and configurations keep every value, key and type."""
        data = tree if isinstance(tree, dict) else {"value": tree}
        task = PipelineTask("a", config=data, objects=[tree])
        storage.build_pipeline_execution(
            Pipeline("p", [task], objects=[tree]), "run-1", input_data=data
        )
        found: list[Any] = list(one_of_each(storage, "run-1"))
        execution, result, task_execution, leaf = found
        assert _typed(execution.get_input_data()) == _typed(data)
        assert _typed(result.get_pipeline_object()) == _typed(tree)
        assert _typed(result.get_serializable_pipeline_object()) == _typed(tree)
        assert _typed(task_execution.get_config()) == _typed(data)
        assert _typed(leaf.get_task_object()) == _typed(tree)
        assert _typed(leaf.get_serializable_task_object()) == _typed(tree)

    def test_long_messages_come_back_whole(self, storage: PipelineStorage) -> None:
        """A message of 100,000 characters, each of four bytes, is kept as it is."""
        run = flow_run("run-1")
        task = task_run(run, "task-run-1")
        message = "🌌" * 100_000
        storage.record(tell(run, "Failed", at(1), task=task, message=message))
        for found in one_of_each(storage, "run-1"):
            assert found.get_message() == message
        leaf = one_of_each(storage, "run-1")[3]
        assert leaf.get_states()[0].message == message

    def test_every_character_comes_back(self, storage: PipelineStorage) -> None:
        """Every character of Unicode but U+0000 is kept, in messages and in JSON."""
        every = [code for code in range(1, sys.maxunicode + 1) if not _is_half(code)]
        run = flow_run("run-1")
        size = 200_000
        pieces = [
            "".join(map(chr, every[start : start + size]))
            for start in range(0, len(every), size)
        ]
        for number, piece in enumerate(pieces):
            task = task_run(run, f"task-run-{number}", task_object={"text": piece})
            batch = tell(run, "Running", at(number), task=task, message=piece)
            storage.record(batch)
        for number, piece in enumerate(pieces):
            found = storage.get_task_result(f"task-run-{number}")
            assert found is not None
            assert found.get_message() == piece
            assert found.get_task_object() == {"text": piece}
            assert found.get_states()[0].message == piece

    def test_what_is_no_text_everywhere_is_written_out(
        self, storage: PipelineStorage
    ) -> None:
        r"""U+0000 and halves of surrogate pairs are kept as ``\x00`` and ``\ud800``.

        Not every database can hold them: so they come back alike from all of them, and
        a message that has one does not hold up a recorder.
        """
        run = flow_run("run-1", input_data={"k\0": ["\0", "\ud800"]}, run_name="a\0")
        storage.record(tell(run, "Failed", at(1), message="lost \0 and \udc80."))
        execution = storage.get_pipeline_execution_or_raise("run-1")
        assert execution.get_message() == "lost \\x00 and \\udc80."
        assert execution.get_run_name() == "a\\x00"
        assert execution.get_input_data() == {"k\\x00": ["\\x00", "\\ud800"]}
        assert execution.get_states()[0].message == "lost \\x00 and \\udc80."

    def test_texts_that_look_alike_are_not_mixed_up(
        self, storage: PipelineStorage
    ) -> None:
        """Case, accents and blanks at the end tell ids and names apart."""
        names = ["track", "Track", "träck", "track ", "tra\u0301ck", "tráck"]
        ids = ["run", "Run", "run-", "run ", "rUn", "run--"]
        for name, run_id in zip(names, ids, strict=True):
            storage.build_pipeline_execution(Pipeline(name), run_id)
        assert sorted(storage.get_pipeline_digest()) == sorted(names)
        for name, run_id in zip(names, ids, strict=True):
            (found,) = storage.get_pipeline_executions(name)
            assert found.get_id() == run_id
            assert storage.get_pipeline_execution(run_id) == found
        assert storage.cleanup() == ids

    def test_an_unusual_id_is_kept_or_refused(self, storage: PipelineStorage) -> None:
        """An id is kept as it is, or refused when it is told: never cut or changed."""
        for run_id in ("rün", "🌌", "x" * 300, "a\0b"):
            try:
                storage.build_pipeline_execution(Pipeline("p"), run_id)
            except InvalidInputError:
                found = None
            else:
                found = run_id
            ids = [each.get_id() for each in storage.get_pipeline_executions()]
            assert ids == ([] if found is None else [found])
            storage.cleanup()

    def test_hostile_texts_are_only_texts(self, storage: PipelineStorage) -> None:
        """Quotes, operators and wildcards in ids and names find and harm nothing."""
        storage.build_pipeline_execution(Pipeline("p"), "run-1")
        for text in ("' or 1=1 --", "%", "_", "*", '"; drop table x', "$where", ".*"):
            assert storage.get_pipeline_execution(text) is None
            assert storage.get_pipeline_executions(text) == []
            storage.build_pipeline_execution(Pipeline(text), text)
            assert len(storage.get_pipeline_executions(text)) == 1
            storage.remove([text])
        assert len(storage.get_pipeline_executions()) == 1


def _is_half(code: int) -> bool:
    return 0xD800 <= code <= 0xDFFF
