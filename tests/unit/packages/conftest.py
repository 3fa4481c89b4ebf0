"""A small model package, as a directory, an sdist and a wheel."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

FILES = {
    "pyproject.toml": (
        '[project]\nname = "my-model"\nversion = "1.2.0"\n'
        'description = "A model\\nof two lines."\nrequires-python = ">=3.11"\n'
        'dependencies = ["prefect>=3"]\n'
        "[project.entry-points.orchestration]\n"
        '"my_model.flow" = "my_model.flow"\n'
        '"my_model.model" = "my_model.model:MyModel"\n'
    ),
    "environment.yml": "name: my-model\ndependencies: [python]\n",
    "my_model/__init__.py": 'raise RuntimeError("imported")\n',
    "my_model/_image.py": 'IMAGE = "registry.example/my-model:1.2.0"\n',
    "my_model/flow.py": (
        "import sys\nfrom prefect import flow\n\n\n@flow\ndef generate_bunch():\n"
        '    pass\n\n\n@flow(name="track", log_prints=True)\n'
        "async def track_bunch(bunch):\n    pass\n\n\ndef helper():\n    pass\n\n\n"
        "sys.exit(1)\n"
    ),
    "my_model/model.py": "class MyModel:\n    pass\n",
}
FLOWS = {
    "generate-bunch": "my_model.flow:generate_bunch",
    "track": "my_model.flow:track_bunch",
}
ENTRY_POINTS = (
    "[console_scripts]\nx = y:z\n\n[orchestration]\n"
    "my_model.flow = my_model.flow\nmy_model.model = my_model.model:MyModel\n"
)
PKG_INFO = "Metadata-Version: 2.1\nName: my-model\nVersion: 1.2.0\n\nA model.\n"


@pytest.fixture
def files() -> dict[str, str]:
    """Return the files of a model package, to be changed at will."""
    return dict(FILES)


@pytest.fixture
def make_directory(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes files into a directory."""

    def make(files: Mapping[str, str | bytes] = FILES, name: str = "source") -> Path:
        root = tmp_path / name
        for path, content in files.items():
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            data = content.encode() if isinstance(content, str) else content
            target.write_bytes(data)
        return root

    return make


@pytest.fixture
def make_sdist(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that packs files, and members of any kind, as an sdist."""

    def make(
        files: Mapping[str, str | bytes] = FILES,
        *extra: tarfile.TarInfo,
        top: str = "my_model-1.2.0/",
        name: str = "my_model-1.2.0.tar.gz",
    ) -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w:gz") as archive:
            for member, content in files.items():
                data = content.encode() if isinstance(content, str) else content
                info = tarfile.TarInfo(top + member)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            for info in extra:
                archive.addfile(info, io.BytesIO(b"\0" * info.size))
        return path

    return make


@pytest.fixture
def make_wheel(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that packs files as a wheel."""

    def make(files: Mapping[str, str | bytes] | None = None) -> Path:
        path = tmp_path / "my_model-1.2.0-py3-none-any.whl"
        if files is None:
            files = {k: v for k, v in FILES.items() if k.startswith("my_model/")}
            files |= {
                "my_model/environment.yml": FILES["environment.yml"],
                "my_model-1.2.0.dist-info/METADATA": PKG_INFO,
                "my_model-1.2.0.dist-info/entry_points.txt": ENTRY_POINTS,
            }
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in files.items():
                archive.writestr(member, content)
        return path

    return make
