"""A chain of three flows: the file that upstream ships, and what its flows are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prefect_lume.composition import (
    FLOW_RETURN,
    SubflowSignature,
    from_parameter_schema,
    load_yaml,
    validate,
)
from prefect_lume.errors import CompositionError, Problem

FILE = {"type": "object", "title": "FileReference", "x-prefect-lume": "file-reference"}


@pytest.fixture
def upstream_file() -> Path:
    return Path(__file__).with_name("upstream.yaml")


@pytest.fixture
def signatures() -> dict[str, SubflowSignature]:
    """Return the signatures of flow1, flow2 and flow3, as Prefect would give them."""
    return {
        "flow1": from_parameter_schema(
            "flow1",
            {
                "type": "object",
                "properties": {
                    "text1": {"type": "string", "title": "text1", "position": 0},
                    "count": {"type": "integer", "default": 1, "minimum": 1},
                },
                "required": ["text1"],
            },
            project_name="test",
            tasks=["save_text_file", "count_words"],
            task_returns={
                "save_text_file": FILE,
                "count_words": {"type": "integer"},
                FLOW_RETURN: {"type": "string"},
            },
        ),
        "flow2": from_parameter_schema(
            "flow2",
            {
                "properties": {
                    "file_rep": {"$ref": "#/definitions/FileReference"},
                    "words": {"type": "integer", "default": 0},
                    "title": {"type": "string", "default": None},
                },
                "required": ["file_rep"],
                "definitions": {"FileReference": FILE},
            },
            project_name="test",
            tasks=["save_db_result"],
        ),
        "flow3": from_parameter_schema(
            "flow3",
            {"properties": {"text1": {}, "text2": {}}, "required": ["text1"]},
            project_name="test",
            tasks=[],
        ),
    }


@pytest.fixture
def problems(
    signatures: dict[str, SubflowSignature],
) -> Callable[..., tuple[Problem, ...]]:
    """Return a function that gives the problems of a YAML text, in their order."""

    def find(text: str, **options: object) -> tuple[Problem, ...]:
        try:
            spec = load_yaml(text)
            known = {
                flow.name: signatures[flow.flow_name]
                for flow in spec.composing_flows
                if flow.flow_name in signatures
            }
            validate(spec, known, known_flows=signatures, **options)
        except CompositionError as exc:
            return exc.problems
        return ()

    return find
