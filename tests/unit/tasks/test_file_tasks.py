"""Saving and loading files through Prefect's filesystem Blocks."""

import io

import h5py
import numpy as np
import pytest
from PIL import Image
from prefect import flow
from prefect.filesystems import LocalFileSystem, WritableFileSystem

from prefect_lume.credentials import LumeServices
from prefect_lume.errors import (
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageError,
)
from prefect_lume.results import FileReference
from prefect_lume.tasks import load_file, save_file
from prefect_lume.tasks.files import _call


@pytest.fixture
def services(tmp_path):
    """Embedded services in a folder of their own."""
    return LumeServices(home=str(tmp_path / "lume"))


def save(obj, name, services, **options):
    """Save outside any flow, as a script would."""
    return save_file.fn(obj, name, services=services, **options)


def h5_bytes():
    """A small HDF5 file."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["x"] = np.arange(3.0)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("obj", "name", "format_", "same"),
    [
        ("grüß dich\n", "note.txt", "text", lambda v: v == "grüß dich\n"),
        ({"a": [1, None]}, "set.yaml", "yaml", lambda v: v == {"a": [1, None]}),
        (b"\0\1", "raw.bin", "bytes", lambda v: v == b"\0\1"),
        (h5_bytes(), "beam.h5", "hdf5", lambda v: v["x"][:].tolist() == [0, 1, 2]),
        (
            Image.new("RGB", (3, 2), "red"),
            "plot.png",
            "image",
            lambda v: v.size == (3, 2) and v.getpixel((0, 0)) == (255, 0, 0),
        ),
    ],
)
def test_each_format_comes_back(services, obj, name, format_, same):
    """A file of every format is told by its name and loads as it was saved."""
    reference = save(obj, name, services)
    assert reference.format == format_
    assert reference.path.endswith(f"/{name}")
    assert same(load_file.fn(reference, services=services))
    assert same(load_file.fn(reference.model_dump(mode="json"), services=services))


def test_path_is_saved_byte_for_byte(services, tmp_path):
    """A path's content is saved as it is."""
    (tmp_path / "beam.h5").write_bytes(h5_bytes())
    reference = save(tmp_path / "beam.h5", "copy.h5", services)
    stored = tmp_path / "lume" / "files" / reference.path
    assert stored.read_bytes() == h5_bytes()


def test_missing_path_names_its_neighbours(services, tmp_path):
    """A path without a file suggests the nearest one, and nothing is written."""
    (tmp_path / "beam.h5").write_bytes(h5_bytes())
    with pytest.raises(NotFoundError, match=r"Did you mean|beam\.h5"):
        save(tmp_path / "beams.h5", "beam.h5", services)
    assert not (tmp_path / "lume" / "files").exists()


@pytest.mark.parametrize("name", ["", "a/b.txt", "..", "a\0b", "x" * 201])
def test_names_that_are_no_file_names_are_refused(services, name):
    """A name cannot leave its folder."""
    with pytest.raises(InvalidInputError, match="not a file name"):
        save("x", name, services)


def test_tampered_file_is_never_returned(services, tmp_path):
    """A file whose bytes changed is an integrity error."""
    reference = save("right", "a.txt", services)
    stored = tmp_path / "lume" / "files" / reference.path
    stored.write_text("wrong")
    with pytest.raises(IntegrityError, match=r"a\.txt"):
        load_file.fn(reference, services=services)


def test_deleted_file_is_not_found(services, tmp_path):
    """A file that is gone is named."""
    reference = save("right", "a.txt", services)
    (tmp_path / "lume" / "files" / reference.path).unlink()
    with pytest.raises(NotFoundError, match=r"a\.txt"):
        load_file.fn(reference, services=services)


@pytest.mark.parametrize("reference", [3, {}, {"path": "../x"}, "x"])
def test_what_is_no_reference_is_refused(services, reference):
    """The error says what a reference is."""
    with pytest.raises(InvalidInputError, match="FileReference"):
        load_file.fn(reference, services=services)


def test_reference_cannot_leave_the_storage(services):
    """A reference made by hand cannot point outside the storage's folder."""
    with pytest.raises(ValueError, match="path"):
        FileReference(path="../../etc/passwd", sha256="0" * 64, size=1, format="text")


def test_any_filesystem_block_holds_the_files(tmp_path):
    """Files go to the Block that the services name, and the reference says which."""
    LocalFileSystem(basepath=str(tmp_path / "shelf")).save("shelf", overwrite=True)
    services = LumeServices(
        home=str(tmp_path / "lume"), file_storage="local-file-system/shelf"
    )
    reference = save("on the shelf", "a.txt", services)
    assert reference.storage == "local-file-system/shelf"
    assert (tmp_path / "shelf" / reference.path).read_text() == "on the shelf"
    elsewhere = LumeServices(home=str(tmp_path / "other"))
    assert load_file.fn(reference, services=elsewhere) == "on the shelf"


def test_storage_that_refuses_is_a_storage_error(services, tmp_path):
    """What a filesystem raises becomes an error of the one tree."""
    (tmp_path / "lume").mkdir()
    (tmp_path / "lume" / "files").write_text("in the way")
    with pytest.raises(StorageError, match="LocalFileSystem did not save"):
        save("x", "a.txt", services)


def test_plain_and_async_third_party_filesystems_are_called():
    """A filesystem written with plain or async methods works as well."""

    class Plain(WritableFileSystem):
        def read_path(self, path):
            return b"plain"

        def write_path(self, path, content):
            return None

    class Async(Plain):
        async def read_path(self, path):
            return b"async"

    assert _call(Plain().read_path, "x") == b"plain"
    assert _call(Async().read_path, "x") == b"async"


def test_files_of_a_flow_lie_under_its_run(services):
    """Inside a flow the path names the run, and async flows work too."""

    @flow
    async def writes():
        return save_file("in a run", "a.txt", services=services)

    import asyncio

    reference = asyncio.run(writes())
    folder = reference.path.split("/")
    assert folder[0] == "default"
    assert len(folder[1]) == 36
    assert load_file.fn(reference, services=services) == "in a run"
