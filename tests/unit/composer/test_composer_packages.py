"""How the package of a registered deployment becomes importable."""

from __future__ import annotations

import dataclasses
import importlib
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest

from prefect_lume.composer.packages import import_flow, installed_version
from prefect_lume.errors import IntegrityError, NotFoundError, PackageError
from prefect_lume.packages import inspect_source
from prefect_lume.registry import DeploymentRecord, ModelRecord

Make = Callable[[str], DeploymentRecord]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make a deployment of a package with one flow, in some version."""
    name = f"lume_made_{uuid4().hex[:8]}"
    now = datetime.now(UTC)

    def deployment(version: str) -> DeploymentRecord:
        root = tmp_path / version
        (root / name).mkdir(parents=True)
        (root / "environment.yml").write_text("dependencies: [python]\n")
        (root / "pyproject.toml").write_text(
            f"""
[project]
name = "{name}"
version = "{version}"
[project.entry-points.orchestration]
"{name}.flow" = "{name}.flow"
"""
        )
        (root / name / "__init__.py").write_text("")
        (root / name / "flow.py").write_text(
            f"from prefect import flow\n@flow(name='it')\n"
            f"def it() -> str:\n    return {version!r}\n"
        )
        source = inspect_source(root)
        model = ModelRecord(1, "a", "l", "f", "b", "d", now)
        return DeploymentRecord(
            deployment_id=1,
            model=model,
            version=version,
            deploy_date=now,
            package_import_name=source.import_name,
            asset_dir=None,
            source=source.uri,
            sha256=source.sha256,
            image=None,
            is_live=True,
            entrypoints=dict(source.flow_entrypoints),
        )

    return deployment


def test_a_package_that_is_not_installed_is_unpacked(
    make: Make, tmp_path: Path
) -> None:
    """It comes from below the packages folder, and a second call finds it again."""
    deployment = make("1.0")
    assert installed_version(deployment.package_import_name) is None
    flow = import_flow(deployment, "it", tmp_path / "packages")
    assert flow.fn() == "1.0"
    module = sys.modules[flow.fn.__module__]
    assert str(module.__file__).startswith(str(tmp_path / "packages"))
    assert import_flow(deployment, "it", tmp_path / "packages") is flow


def test_two_versions_in_one_process_are_refused(make: Make, tmp_path: Path) -> None:
    """The error names both versions, and the way out."""
    import_flow(make("1.0"), "it", tmp_path / "packages")
    with pytest.raises(PackageError, match=r"version 1\.0 .*version 2\.0"):
        import_flow(make("2.0"), "it", tmp_path / "packages")


def test_a_changed_source_is_never_imported(make: Make, tmp_path: Path) -> None:
    """A source whose hash is another one is refused before anything of it runs."""
    deployment = dataclasses.replace(make("1.0"), sha256="0" * 64)
    with pytest.raises(IntegrityError):
        import_flow(deployment, "it", tmp_path / "packages")
    assert deployment.package_import_name not in sys.modules


def test_a_flow_that_the_deployment_does_not_offer(make: Make, tmp_path: Path) -> None:
    """The error lists the flows that it does offer."""
    with pytest.raises(NotFoundError, match="'it'"):
        import_flow(make("1.0"), "other", tmp_path / "packages")


def test_a_source_tree_of_the_registered_content_is_used(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package imported from a checkout serves, if it is what was registered."""
    deployment = make("1.0")
    monkeypatch.syspath_prepend(str(tmp_path / "1.0"))
    module = importlib.import_module(f"{deployment.package_import_name}.flow")
    assert import_flow(deployment, "it", tmp_path / "packages") is module.it


def test_a_source_tree_of_other_content_is_refused(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A package imported from a changed checkout is not taken for the registered."""
    deployment = make("1.0")
    changed = tmp_path / "changed"
    shutil.copytree(tmp_path / "1.0", changed)
    package = changed / deployment.package_import_name
    (package / "more.py").write_text("more = 1\n")
    monkeypatch.syspath_prepend(str(changed))
    importlib.import_module(deployment.package_import_name)
    with pytest.raises(PackageError, match="One process can use one version"):
        import_flow(deployment, "it", tmp_path / "packages")


@pytest.mark.parametrize("entrypoint", ["os:system", "{name}_other.flow:it", ":it"])
def test_an_entry_point_outside_the_package_is_not_imported(
    make: Make, tmp_path: Path, entrypoint: str
) -> None:
    """What a registry row names is imported from its own verified package only."""
    deployment = make("1.0")
    name = deployment.package_import_name
    wrong = dataclasses.replace(
        deployment, entrypoints={"it": entrypoint.format(name=name)}
    )
    with pytest.raises(PackageError, match="not in its package"):
        import_flow(wrong, "it", tmp_path / "packages")
    assert not (tmp_path / "packages").exists()
