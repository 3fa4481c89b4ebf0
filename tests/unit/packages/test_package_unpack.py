"""Unpacking: verified, safe, complete or not at all, and only once."""

from __future__ import annotations

import gzip
import stat
import sys
import tarfile
import threading
import zipfile
from dataclasses import replace

import pytest

from prefect_lume.errors import IntegrityError, PackageError
from prefect_lume.packages import Limits, inspect_source, sources, unpack


def _tree(root) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("form", ["directory", "sdist", "wheel"])
def test_a_package_is_unpacked_once_into_a_folder_of_its_own(form, request, tmp_path):
    """The folder is named by content; a second call returns it untouched."""
    source = inspect_source(request.getfixturevalue(f"make_{form}")())
    into = tmp_path / "deep" / "into"
    folder = unpack(source, into)
    assert folder == into / f"my_model-1.2.0-{source.sha256[:12]}"
    assert (folder / "my_model" / "flow.py").read_text().startswith("import sys")
    before = (folder / "my_model" / "flow.py").stat().st_mtime_ns
    assert unpack(source, into) == folder
    assert (folder / "my_model" / "flow.py").stat().st_mtime_ns == before
    assert [path.name for path in into.iterdir()] == [folder.name]


def test_the_folder_goes_on_the_path(files, make_sdist, tmp_path, monkeypatch):
    """The src folder is returned where the package is in it, and imports work."""
    files["my_model/__init__.py"] = "VALUE = 5\n"
    moved = {
        f"src/{name}" if name.startswith("my_model/") else name: text
        for name, text in files.items()
    }
    folder = unpack(inspect_source(make_sdist(moved)), tmp_path / "into")
    assert folder.name == "src"
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    import my_model

    assert my_model.VALUE == 5
    monkeypatch.delitem(sys.modules, "my_model")


@pytest.mark.parametrize("form", ["directory", "sdist", "wheel"])
def test_a_source_that_changed_is_not_unpacked(form, request, tmp_path):
    """Another hash is an IntegrityError, and leaves nothing behind."""
    path = request.getfixturevalue(f"make_{form}")()
    source = inspect_source(path)
    if form == "directory":
        (path / "my_model" / "flow.py").write_text("evil = 1\n")
    else:
        path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(IntegrityError, match=source.sha256) as caught:
        unpack(source, tmp_path / "into")
    assert caught.value.where == path.as_uri()
    assert list((tmp_path / "into").iterdir()) == []


def test_the_registered_hash_may_be_given(make_sdist, tmp_path):
    """A source that was inspected just now is held against what was registered."""
    source = inspect_source(make_sdist())
    assert unpack(source, tmp_path / "into", sha256=source.sha256)
    with pytest.raises(IntegrityError, match="was registered"):
        unpack(source, tmp_path / "into", sha256="0" * 64)


def test_a_source_that_is_gone_is_a_package_error(make_sdist, make_directory, tmp_path):
    """A missing file or directory is named."""
    sdist, directory = inspect_source(make_sdist()), inspect_source(make_directory())
    sdist.path.unlink()
    with pytest.raises(PackageError, match="There is no package source"):
        unpack(sdist, tmp_path / "into")
    with pytest.raises(PackageError, match="There is no package source"):
        unpack(replace(directory, uri=(tmp_path / "x").as_uri()), tmp_path / "into")


def test_many_at_once_unpack_one_folder(make_sdist, tmp_path):
    """Concurrent calls all return the same complete folder."""
    source = inspect_source(make_sdist())
    barrier = threading.Barrier(8)
    found = []

    def run():
        barrier.wait()
        found.append(unpack(source, tmp_path / "into"))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "into").iterdir()] == [found[0].name]
    assert "my_model/flow.py" in _tree(found[0])


def test_a_failure_in_the_middle_leaves_nothing(make_sdist, tmp_path, monkeypatch):
    """A folder appears complete or not at all."""
    source = inspect_source(make_sdist())

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(sources, "_rename", fail)
    with pytest.raises(OSError, match="disk full"):
        unpack(source, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


def _member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = ""):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


TOP = "my_model-1.2.0/"
HOSTILE = {
    "parent": _member(TOP + "../../evil"),
    "absolute": _member("/etc/evil"),
    "dot-dot-folder": _member("..", tarfile.DIRTYPE),
    "other-top": _member("elsewhere/evil"),
    "no-top": _member("evil"),
    "symlink-out": _member(TOP + "a", tarfile.SYMTYPE, link="/etc/passwd"),
    "symlink-in": _member(TOP + "a", tarfile.SYMTYPE, link="my_model/flow.py"),
    "hardlink": _member(TOP + "a", tarfile.LNKTYPE, link="/etc/passwd"),
    "device": _member(TOP + "a", tarfile.CHRTYPE),
    "fifo": _member(TOP + "a", tarfile.FIFOTYPE),
    "twice": _member(TOP + "my_model/flow.py", size=3),
    "file-as-folder": _member(TOP + "my_model/flow.py/evil", size=3),
    "folder-as-file": _member(TOP + "my_model", size=3),
    "backslash": _member(TOP + "..\\evil"),
    "drive": _member("C:/evil"),
    "control": _member(TOP + "a\nb"),
    "long-step": _member(TOP + "x" * 300),
    "long-path": _member(TOP + "x/" * 600 + "a"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_sdist_is_refused(name, make_sdist, files, tmp_path):
    """Links, devices, doubles and every path out stop it before anything is kept."""
    good = inspect_source(make_sdist(name="good.tar.gz"))
    path = make_sdist(files, HOSTILE[name])
    with pytest.raises(PackageError, match=r"my_model-1\.2\.0\.tar\.gz"):
        inspect_source(path)
    # The check is made again while it is unpacked.
    source = replace(good, uri=path.as_uri(), sha256=_sha(path))
    with pytest.raises(PackageError, match=r"my_model-1\.2\.0\.tar\.gz"):
        unpack(source, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []
    assert not (tmp_path / "evil").exists()


def _sha(path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def _zip_link(archive):
    info = zipfile.ZipInfo("a")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def _zip_twice(archive):
    with pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("my_model/flow.py", "evil")


@pytest.mark.parametrize(
    "add",
    [
        lambda archive: archive.writestr("../evil", "x"),
        lambda archive: archive.writestr("/evil", "x"),
        lambda archive: archive.writestr("a/../../evil", "x"),
        lambda archive: archive.writestr("..\\evil", "x"),
        _zip_link,
        _zip_twice,
    ],
    ids=["parent", "absolute", "inner", "backslash", "symlink", "twice"],
)
def test_a_hostile_wheel_is_refused(make_wheel, add, tmp_path):
    """The same holds for wheels."""
    path = make_wheel()
    with zipfile.ZipFile(path, "a") as archive:
        add(archive)
    with pytest.raises(PackageError, match=r"\.whl holds"):
        inspect_source(path)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(members=3), "more than 3 members"),
        (Limits(member_bytes=100), "too large when unpacked"),
        (Limits(total_bytes=300), "too large when unpacked"),
    ],
)
@pytest.mark.parametrize("form", ["sdist", "wheel"])
def test_sizes_are_bounded(form, limits, words, request, tmp_path):
    """An archive with more than its limits is refused, inspected or unpacked."""
    path = request.getfixturevalue(f"make_{form}")()
    with pytest.raises(PackageError, match=words):
        inspect_source(path, limits=limits)
    with pytest.raises(PackageError, match=words):
        unpack(inspect_source(path), tmp_path / "into", limits=limits)
    assert list((tmp_path / "into").iterdir()) == []


def test_a_bomb_is_not_unpacked(tmp_path):
    """A small file that unpacks to gigabytes ends at the limit."""
    path = tmp_path / "bomb-1.tar.gz"
    header = _member("bomb-1/zeros", size=8 << 30).tobuf()
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header)
        stream.write(b"\0" * (4 << 20))
    with pytest.raises(PackageError, match="too large when unpacked"):
        inspect_source(path)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_impossible_size_is_not_read(tmp_path, kind):
    """A header that claims gigabytes never reaches the memory."""
    path = tmp_path / "bomb-1.tar.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(_member("bomb-1/x", kind, 3 << 30).tobuf())
        stream.write(b"\0" * 4096)
    # Newer versions of tarfile refuse it themselves.
    with pytest.raises(PackageError, match=r"impossible size|is damaged"):
        inspect_source(path)


def test_a_sparse_file_is_refused(tmp_path):
    """A file whose size is a claim is not taken."""
    info = _member("my_model-1/hole", tarfile.GNUTYPE_SPARSE, 0)
    path = tmp_path / "sparse-1.tar.gz"
    with gzip.open(path, "wb") as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT) + b"\0" * 1024)
    with pytest.raises(PackageError, match="special file"):
        inspect_source(path)


@pytest.mark.parametrize("name", ["a-1.tar.gz", "a-1-py3-none-any.whl"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an archive",
        b"\x1f\x8b\x08\0\0\0\0\0\0\xff",
        b"PK\x03\x04" + b"x" * 99,
    ],
    ids=["empty", "text", "gzip-head", "zip-head"],
)
def test_what_is_no_archive_is_refused(tmp_path, name, content):
    """The error names the file."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PackageError, match=name):
        inspect_source(path)


@pytest.mark.parametrize("form", ["sdist", "wheel"])
def test_a_cut_or_changed_archive_never_crashes(form, request, tmp_path):
    """Whatever byte is wrong: the error is a PackageError, or nothing was harmed."""
    path = request.getfixturevalue(f"make_{form}")()
    whole = path.read_bytes()
    for step in range(1, len(whole), max(1, len(whole) // 150)):
        changed = bytearray(whole)
        changed[step] ^= 0xFF
        for content in (whole[:step], bytes(changed)):
            path.write_bytes(content)
            try:
                inspect_source(path)
            except PackageError:
                continue


def test_executables_stay_executable(tmp_path, make_sdist, files):
    """The owner's execute bit is kept, no other special bit is."""
    data = b"#!/bin/sh\n"
    info = _member(TOP + "run.sh", size=len(data))
    info.mode = 0o6755
    source = inspect_source(make_sdist(files, info))
    mode = (unpack(source, tmp_path / "into") / "run.sh").stat().st_mode
    assert stat.S_IMODE(mode) == 0o755


def test_pax_names_of_any_language_are_kept(make_sdist, files, tmp_path):
    """Names outside of ASCII and longer than a header come out as they went in."""
    name = "my_model/größe/" + "ä" * 90 + ".txt"
    source = inspect_source(make_sdist({**files, name: "x"}))
    assert name in _tree(unpack(source, tmp_path / "into"))
