"""An sdist whose bytes depend on its content only."""

from __future__ import annotations

import gzip
import os
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_lume.errors import PackageError
from prefect_lume.packages import build_sdist, inspect_source, unpack
from prefect_lume.packages.building import _StoredGzip


def test_an_sdist_says_what_its_directory_says(make_directory, tmp_path):
    """Building loses nothing, and unpacking gives the directory back."""
    root = make_directory()
    built = build_sdist(root, tmp_path / "out")
    assert built == tmp_path / "out" / "my_model-1.2.0.tar.gz"
    assert list((tmp_path / "out").iterdir()) == [built]
    directory, sdist = inspect_source(root), inspect_source(built)
    for fact in ("name", "version", "import_name", "image", "environment"):
        assert getattr(sdist, fact) == getattr(directory, fact)
    assert sdist.flow_entrypoints == directory.flow_entrypoints
    folder = unpack(sdist, tmp_path / "into")
    assert (folder / "PKG-INFO").read_text() == (
        "Metadata-Version: 2.1\nName: my-model\nVersion: 1.2.0\n"
        "Summary: A model of two lines.\nRequires-Python: >=3.11\n"
        "Requires-Dist: prefect>=3\n"
    )
    (folder / "PKG-INFO").unlink()
    assert inspect_source(folder).sha256 == directory.sha256


def test_equal_directories_give_equal_bytes(make_directory, tmp_path, files):
    """Time, place, mode, order and what builds leave behind do not show."""
    first = build_sdist(make_directory(), tmp_path / "a")
    other = make_directory(dict(reversed(files.items())), "other")
    (other / "my_model" / "flow.py").chmod(0o755)
    os.utime(other / "environment.yml", (5, 5))
    (other / "my_model.egg-info").mkdir()
    (other / "my_model.egg-info" / "PKG-INFO").write_text("old")
    second = build_sdist(other, other / "dist")
    assert first.read_bytes() == second.read_bytes()
    assert build_sdist(other, other / "dist").read_bytes() == second.read_bytes()


PINNED = "a2cdfe89f85712fcd056a8bcc8354f6a72dc89f4fa65450b625bd2dbf66e20a5"


def test_the_bytes_are_pinned(make_directory, tmp_path, monkeypatch):
    """Another Python or machine builds this very archive."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    built = build_sdist(make_directory(), tmp_path)
    assert inspect_source(built).sha256 == PINNED


def test_members_have_no_owner_time_or_mode_of_the_machine(
    make_directory, tmp_path, monkeypatch
):
    """SOURCE_DATE_EPOCH sets the time, which is 0 without it."""
    for epoch in (None, "1700000000"):
        monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
        if epoch:
            monkeypatch.setenv("SOURCE_DATE_EPOCH", epoch)
        with tarfile.open(build_sdist(make_directory(), tmp_path / "out")) as archive:
            found = archive.getmembers()
        assert {m.mtime for m in found} == {int(epoch or 0)}
        assert {(m.uid, m.gid, m.uname, m.gname) for m in found} == {(0, 0, "", "")}
        assert {m.mode for m in found} == {0o644}
        names = [m.name for m in found]
        assert names[0] == "my_model-1.2.0/PKG-INFO"
        assert names[1:] == sorted(names[1:])


def test_what_cannot_be_built_is_refused(make_directory, files, tmp_path, monkeypatch):
    """A missing directory, foreign tools, a target inside, a wrong epoch."""
    with pytest.raises(PackageError, match="There is no directory"):
        build_sdist(tmp_path / "none", tmp_path / "out")
    root = make_directory()
    with pytest.raises(PackageError, match="part of its own source"):
        build_sdist(root, root)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(PackageError, match="number of seconds"):
        build_sdist(root, tmp_path / "out")
    files["pyproject.toml"] = "[build-system]\n"
    files["my_model.egg-info/PKG-INFO"] = "Name: my-model\nVersion: 1\n"
    files["my_model.egg-info/entry_points.txt"] = (
        "[orchestration]\nmy_model.flow = my_model.flow\n"
    )
    old = make_directory(files, "old")
    assert inspect_source(old).version == "1"
    with pytest.raises(PackageError, match="its own tools"):
        build_sdist(old, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@settings(deadline=None)
@given(st.lists(st.binary(max_size=200_000), max_size=4))
def test_the_stored_gzip_is_gzip(pieces):
    """Every gzip reader gets back what was written, and checks it."""
    import io

    stream = io.BytesIO()
    stored = _StoredGzip(stream, 0)
    for piece in pieces:
        stored.write(piece)
    stored.finish()
    assert gzip.decompress(stream.getvalue()) == b"".join(pieces)
