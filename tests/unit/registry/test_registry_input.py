"""What the registry refuses before any database sees it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_lume.errors import AmbiguousError, InvalidInputError, NotFoundError
from prefect_lume.registry import ModelDBService, SubflowEntry, fields
from prefect_lume.storage.sql import get_engine

FIELDS = {
    "author": "Jackie Garrahan",
    "laboratory": "slac",
    "facility": "lcls",
    "beampath": "cu_hxr",
    "description": "test_model",
}
DEPLOYMENT: dict[str, Any] = {
    "version": "1",
    "source": "https://example.org/my_model-1.tar.gz",
    "sha256": "ab" * 32,
    "package_import_name": "my_model",
}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ModelDBService]:
    service = ModelDBService(get_engine(f"sqlite:///{tmp_path / 'registry.db'}"))
    service.apply_schema()
    yield service
    service.close()


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("x" * 256, ["256", "255"]),
        ("a\0b", ["null character"]),
        ("\ud800", ["surrogate"]),
        ("", ["empty"]),
        (7, ["int"]),
        (None, ["NoneType"]),
    ],
)
def test_unfit_text_is_refused(
    registry: ModelDBService, field: str, value: Any, words: list[str]
) -> None:
    """Text that a database would cut or refuse is refused by name and limit."""
    with pytest.raises(InvalidInputError) as caught:
        registry.store_model(**{**FIELDS, field: value})
    assert all(word in str(caught.value) for word in [field, *words])
    assert registry.get_models() == []


@pytest.mark.parametrize(
    "criteria",
    [
        {"author": 0},
        {"model_id": "1"},
        {"model_id": True},
        {"model_id": 1.0},
        {"model_id": 2**31},
        {"author": None},
        {"author": {"$ne": ""}},
        {"created": "2026-11-20"},
    ],
    ids=str,
)
def test_criteria_of_another_type_are_refused(
    registry: ModelDBService, criteria: dict[str, Any]
) -> None:
    """No database compares text with numbers, where some take all text for 0."""
    registry.store_model(**FIELDS)
    with pytest.raises(InvalidInputError, match=next(iter(criteria))):
        registry.get_model(**criteria)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sha256", "abc"),
        ("sha256", "g" * 64),
        ("sha256", "a" * 64 + "\n"),
        ("entrypoints", {"track": "no_colon"}),
        ("entrypoints", {"track": "module:"}),
        ("entrypoints", {"": "module:track"}),
        ("entrypoints", ["track"]),
        ("is_live", 1),
        ("version", "1" * 256),
        ("version", 1.0),
        ("model_id", 2**31),
        ("image", "i" * 1025),
        ("asset_dir", ""),
        ("source", "s" * 16_001),
        ("lock", "✓" * (7 * 1024 * 1024 // 3 + 1)),
    ],
    ids=lambda value: str(value)[:20],
)
def test_unfit_deployments_are_refused(
    registry: ModelDBService, field: str, value: Any
) -> None:
    """A value of another form is refused by name, and nothing is stored."""
    model_id = registry.store_model(**FIELDS)
    with pytest.raises(InvalidInputError, match=field):
        registry.store_deployment(**{"model_id": model_id, **DEPLOYMENT, field: value})
    assert registry.get_deployments() == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"position": 0}, r"subflows\[1\].position"),
        ({"position": True}, r"subflows\[1\].position"),
        ({"name": "first"}, "'first'"),
        ({"name": ""}, r"subflows\[1\].name"),
        ({"flow_id": "x" * 37}, r"subflows\[1\].flow_id.*36"),
        ({"parameters": {"x": float("nan")}}, r"parameters.x is nan"),
        pytest.param(
            {"parameters": {"x": [1, object()]}},
            r"parameters.x\[1\].*object",
            id="an object",
        ),
        ({"parameters": {"x": 2**64}}, "64 bits"),
        ({"parameters": {"x": b"bytes"}}, "bytes"),
        ({"mapped_parameters": {1: "x"}}, "keys must be text"),
        ({"mapped_parameters": {"a\0": "x"}}, "null character"),
        ({"mapped_parameters": []}, "must be a mapping"),
        ({"options": {"x": {"y": "a\0b"}}}, r"options.x.y"),
        ({"options": {"x": "\udc00"}}, "surrogate"),
    ],
    ids=str,
)
def test_unfit_subflows_are_refused(
    registry: ModelDBService, changes: dict[str, Any], words: str
) -> None:
    """The error names the subflow, the field and the place in it; nothing is stored."""
    registry.store_project("test")
    registry.store_flow(flow_id="a", flow_name="a", project_name="test")
    values = {"flow_id": "a", "name": "second", "position": 2, **changes}
    entries = [SubflowEntry("a", "first", 1), SubflowEntry(**values)]
    with pytest.raises(InvalidInputError, match=words):
        registry.store_flow_of_flows(
            parent_flow_id="p",
            parent_flow_name="p",
            project_name="test",
            subflows=entries,
        )
    assert [flow.flow_id for flow in registry.get_flows()] == ["a"]


def test_flow_that_contains_itself_is_refused(registry: ModelDBService) -> None:
    """A flow cannot be its own subflow."""
    registry.store_project("test")
    registry.store_flow(flow_id="a", flow_name="a", project_name="test")
    with pytest.raises(InvalidInputError, match="contain itself"):
        registry.store_flow_of_flows(
            parent_flow_id="a",
            parent_flow_name="a",
            project_name="test",
            subflows=[SubflowEntry("a", "a", 1)],
        )
    assert registry.get_flow(flow_id="a").composition is None


def test_deep_data_is_refused() -> None:
    """Data nested past the limit is refused instead of exhausting the stack."""
    deep: dict[str, Any] = {}
    for _ in range(10_000):
        deep = {"x": deep}
    with pytest.raises(InvalidInputError, match="nested more than 50"):
        fields.json_object("parameters", deep)


def test_tuples_become_lists() -> None:
    """Plain data is returned in the form in which the database gives it back."""
    given = {"range": (1, (2.5, None)), "on": True}
    assert fields.json_object("parameters", given) == {
        "range": [1, [2.5, None]],
        "on": True,
    }


def test_errors_stay_short(registry: ModelDBService) -> None:
    """However much is stored or asked for, a message stays readable."""
    for i in range(60):
        registry.store_model(**{**FIELDS, "beampath": f"{i}" + "x" * 200})
    with pytest.raises(NotFoundError) as missing:
        registry.get_model(beampath="y" * 100_000)
    with pytest.raises(AmbiguousError, match="More than 50 models") as many:
        registry.get_model(author=FIELDS["author"])
    assert len(str(missing.value)) < 2000
    assert len(str(many.value)) < 2000


def test_statements_are_parameters(registry: ModelDBService) -> None:
    """Quotes and operators in a value are text, not SQL."""
    registry.store_model(**FIELDS)
    with pytest.raises(NotFoundError):
        registry.get_model(author="x' OR '1'='1")
    assert registry.get_models(author="%") == []
