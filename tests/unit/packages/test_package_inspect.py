"""What is read of a model package, in each of its forms, without running it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from prefect_lume.errors import PackageError
from prefect_lume.packages import inspect_source, local_path

from_files = pytest.mark.parametrize("form", ["directory", "sdist", "wheel"])

FLOWS = {
    "generate-bunch": "my_model.flow:generate_bunch",
    "track": "my_model.flow:track_bunch",
}


@from_files
def test_every_form_says_the_same(form, request):
    """Directory, sdist and wheel of one package give the same facts, and run none."""
    path = request.getfixturevalue(f"make_{form}")()
    source = inspect_source(path)
    assert source.kind == form
    assert source.uri == path.as_uri()
    assert source.path == path
    assert (source.name, source.version) == ("my-model", "1.2.0")
    assert source.import_name == "my_model"
    assert source.image == "registry.example/my-model:1.2.0"
    assert source.environment == "name: my-model\ndependencies: [python]\n"
    assert source.flow_entrypoints == FLOWS
    assert source.model_entrypoint == "my_model.model:MyModel"
    assert len(source.sha256) == 64
    assert inspect_source(path.as_uri()) == inspect_source(str(path)) == source


def test_an_archives_hash_is_that_of_the_file(make_sdist):
    """Anybody can check it with sha256sum."""
    path = make_sdist()
    assert inspect_source(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_directorys_hash_is_that_of_its_sources(make_directory, files, tmp_path):
    """Times, modes, caches and version control do not count; content and names do."""
    root = make_directory()
    first = inspect_source(root).sha256
    for path in (
        ".git/HEAD",
        "__pycache__/a.pyc",
        "my_model/__pycache__/flow.cpython-311.pyc",
        "my_model.egg-info/SOURCES.txt",
        "dist/my_model-1.2.0.tar.gz",
        "build/lib/x.py",
        ".venv/bin/python",
        "env/pyvenv.cfg",
        ".DS_Store",
    ):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    (root / "my_model" / "flow.py").chmod(0o700)
    os.utime(root / "environment.yml", (1, 1))
    assert inspect_source(root).sha256 == first
    assert inspect_source(make_directory(name="elsewhere")).sha256 == first
    files["my_model/build/data.txt"] = "1"
    assert inspect_source(make_directory(files, "more")).sha256 != first
    files = {**files, "my_model/model.py": files["my_model/model.py"] + "\n"}
    del files["my_model/build/data.txt"]
    assert inspect_source(make_directory(files, "changed")).sha256 != first


def test_the_src_layout_is_found(files, make_directory):
    """A package below src/ is read like one at the root."""
    moved = {
        f"src/{name}" if name.startswith("my_model/") else name: text
        for name, text in files.items()
    }
    assert inspect_source(make_directory(moved)).flow_entrypoints == FLOWS


def test_one_flow_object_may_be_named(files, make_directory):
    """An entry point with an attribute offers that flow under its own name."""
    files["pyproject.toml"] = files["pyproject.toml"].replace(
        '"my_model.flow"\n', '"my_model.flow:track_bunch"\n'
    )
    source = inspect_source(make_directory(files))
    assert source.flow_entrypoints == {"track": "my_model.flow:track_bunch"}


def test_a_flow_from_elsewhere_has_prefects_default_name(files, make_directory):
    """An attribute that the module only imports is named like its function."""
    files["pyproject.toml"] = files["pyproject.toml"].replace(
        '"my_model.flow"\n', '"my_model:run_all"\n'
    )
    files["my_model/__init__.py"] = "from my_model.flow import run_all\n"
    source = inspect_source(make_directory(files))
    assert source.flow_entrypoints == {"run-all": "my_model:run_all"}


def test_an_sdist_of_older_tools_is_read(files, make_sdist):
    """PKG-INFO and egg-info stand in where pyproject.toml has no [project] table."""
    from_egg_info = {
        **files,
        "pyproject.toml": '[build-system]\nrequires = ["setuptools"]\n',
        "PKG-INFO": "Metadata-Version: 2.1\nName: my-model\nVersion: 1.2.0\n",
        "my_model.egg-info/entry_points.txt": (
            "[orchestration]\nmy_model.flow = my_model.flow:track_bunch [extra]\n"
        ),
    }
    source = inspect_source(make_sdist(from_egg_info))
    assert (source.name, source.version) == ("my-model", "1.2.0")
    assert source.flow_entrypoints == {"track": "my_model.flow:track_bunch"}
    assert source.model_entrypoint is None


@pytest.mark.parametrize("file", ["__init__.py", "_version.py", "__about__.py"])
def test_a_dynamic_version_is_read_from_the_code(files, make_directory, file):
    """__version__ is found where packages keep it, in plain text."""
    files["pyproject.toml"] = files["pyproject.toml"].replace(
        'version = "1.2.0"', 'dynamic = ["version"]'
    )
    files["my_model/__init__.py"] = "from x import y\n__version__ = y()\n"
    files[f"my_model/{file}"] = '__version__: str = "3.0.dev1"\n'
    assert inspect_source(make_directory(files)).version == "3.0.dev1"


def test_what_a_package_need_not_have_is_none(files, make_directory):
    """Image, environment and model may be missing."""
    del files["environment.yml"], files["my_model/_image.py"]
    files["pyproject.toml"] = files["pyproject.toml"].partition('"my_model.model"')[0]
    source = inspect_source(make_directory(files))
    assert source.image is source.environment is source.model_entrypoint is None


def _without(name):
    return lambda files: files.pop(name)


def _edit(name, old, new):
    def edit(files):
        assert old in files[name]
        files[name] = files[name].replace(old, new)

    return edit


PROJECT = "pyproject.toml"
BROKEN = [
    (_without(PROJECT), "has none. A model package has environment.yml at its root"),
    (_edit(PROJECT, "[project]", "[project"), "pyproject.toml is not valid TOML"),
    (_edit(PROJECT, "[project]\n", "project = 1\n["), "TOML"),
    (_edit(PROJECT, "my_model.flow", "my_model.run"), "must have one entry point"),
    (_edit(PROJECT, '"my_model.model" =', '"other.flow" ='), "has several: "),
    (_edit(PROJECT, '"my_model.flow" =', '"5x.flow" ='), "does not begin with"),
    (_edit(PROJECT, '"my_model.flow" =', '"other.flow" ='), "holds no package 'other'"),
    (_edit(PROJECT, 'name = "my-model"', ""), "does not say its name"),
    (_edit(PROJECT, '"my-model"', '"../../etc"'), "is not the name of a Python"),
    (_edit(PROJECT, '"1.2.0"', '"1/../.."'), "is not a version"),
    (_edit(PROJECT, 'version = "1.2.0"', ""), "does not say its version"),
    (_edit(PROJECT, '= "my_model.flow"', '= "my model!"'), "Write 'package.module:"),
    (_edit(PROJECT, '= "my_model.flow"', '= "my_model.flows"'), "no my_model/flows.py"),
    (_edit(PROJECT, ":MyModel", ""), "must name a class"),
    (_edit(PROJECT, ".model:", ".models:"), "names the module 'my_model.models'"),
    (_edit("my_model/flow.py", "prefect", "mine"), "defines no flow"),
    (_edit("my_model/flow.py", '"track"', '"generate-bunch"'), "are both the flow"),
    (_edit("my_model/flow.py", '"track"', 'f"{sys}"'), "must be plain text in quotes"),
    (_edit("my_model/flow.py", "async def", "async"), r"is not Python \(line 11\)"),
    (_edit("my_model/_image.py", '"registry', 'str() + "registry'), "IMAGE must be"),
]


@pytest.mark.parametrize(("breaks", "words"), BROKEN)
@pytest.mark.parametrize("form", ["directory", "sdist"])
def test_what_is_wrong_is_named(files, breaks, words, form, request):
    """Each error names the source, and what is missing or wrong in it."""
    breaks(files)
    path = request.getfixturevalue(f"make_{form}")(files)
    with pytest.raises(PackageError, match=words) as caught:
        inspect_source(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a.txt": ""}, "is not a wheel"),
        ({"a-1.dist-info/METADATA": "", "b-1.dist-info/METADATA": ""}, "not a wheel"),
        ({"a-1.dist-info/METADATA": "Name: a\nVersion: 1\n"}, "must have one entry"),
        (
            {"a-1.dist-info/METADATA": "", "a-1.dist-info/entry_points.txt": "nothing"},
            "entry_points.txt is not valid",
        ),
        (
            {
                "a-1.dist-info/METADATA": "Version: 1\n",
                "a-1.dist-info/entry_points.txt": "[orchestration]\na.flow = a.flow\n",
                "a/flow.py": "",
            },
            "does not say its name",
        ),
    ],
)
def test_what_is_wrong_with_a_wheel_is_named(make_wheel, files, words):
    """A wheel without its metadata is refused in the same way."""
    with pytest.raises(PackageError, match=words):
        inspect_source(make_wheel(files))


@pytest.mark.parametrize(
    "uri",
    [
        "https://user:hunter2@example.org/my_model-1.0.tar.gz?token=hunter2",
        "git+ssh://git:hunter2@example.org/model.git",
        "git+https://example.org/model.git@v1",
        "s3://bucket/model.tar.gz",
    ],
)
def test_remote_sources_must_be_downloaded_first(uri):
    """The error says so, and repeats no password."""
    with pytest.raises(PackageError, match="Download the package first") as caught:
        inspect_source(uri)
    assert "hunter2" not in str(caught.value)


def test_what_is_not_there_is_refused_with_what_is(tmp_path, make_sdist):
    """A wrong path names its folder's packages; another kind of file is no package."""
    make_sdist()
    with pytest.raises(PackageError, match=r"holds: 'my_model-1\.2\.0\.tar\.gz'"):
        inspect_source(tmp_path / "my_model-1.3.0.tar.gz")
    with pytest.raises(PackageError, match="There is no package source"):
        inspect_source(tmp_path / "source")
    (tmp_path / "model.rpm").write_text("")
    with pytest.raises(PackageError, match="neither a directory nor an sdist"):
        inspect_source(tmp_path / "model.rpm")


@pytest.mark.parametrize("uri", ["file://server/share/x", "file:relative"])
def test_only_local_file_uris_are_taken(uri):
    """A file URI with a host or without a root is refused."""
    with pytest.raises(PackageError, match="file:///absolute/path"):
        local_path(uri)


def test_relative_and_home_paths_become_absolute(monkeypatch, tmp_path):
    """A path is taken from where the caller stands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("a/../b") == tmp_path / "b"
    assert local_path("~/b") == tmp_path / "b"
    assert local_path(Path("b")) == tmp_path / "b"


@pytest.mark.parametrize("target", ["..", "my_model", "missing"])
def test_links_that_lead_to_folders_or_out_are_refused(make_directory, target):
    """A directory with such a link has no hash that means anything elsewhere."""
    root = make_directory()
    (root / "link").symlink_to(target)
    with pytest.raises(PackageError, match="link is a link"):
        inspect_source(root)


def test_a_link_to_a_file_inside_counts_as_that_file(make_directory):
    """What a link shows is what is hashed."""
    root = make_directory()
    (root / "copy.yml").write_bytes((root / "environment.yml").read_bytes())
    plain = inspect_source(root).sha256
    (root / "copy.yml").unlink()
    (root / "copy.yml").symlink_to("environment.yml")
    assert inspect_source(root).sha256 == plain
