"""Files as bytes and objects."""

import io
from datetime import date
from pathlib import Path

import h5py
import matplotlib.figure
import numpy as np
import PIL.Image
import pytest

from prefect_lume.errors import InvalidInputError, NotFoundError
from prefect_lume.results.files import FORMATS, detect_format, from_bytes, to_bytes


def hdf5(userblock=0):
    """Return the content of a small HDF5 file."""
    sink = io.BytesIO()
    with h5py.File(sink, "w", userblock_size=userblock) as file:
        file["x"] = np.arange(5.0)
        file["x"].attrs["unit"] = "m"
    return sink.getvalue()


def png(size=(4, 3), mode="RGB"):
    """Return the content of a small PNG file."""
    sink = io.BytesIO()
    PIL.Image.new(mode, size, 7).save(sink, "PNG")
    return sink.getvalue()


@pytest.mark.parametrize(
    ("obj", "name", "expected"),
    [
        (Path("a/beam.H5"), "", "hdf5"),
        (Path("a/beam"), "beam.hdf5", "hdf5"),
        (Path("plot.jpeg"), "", "image"),
        (Path("a.yml"), "", "yaml"),
        (Path("a.csv"), "", "text"),
        (Path("a.bin"), "", "bytes"),
        (b"x", "", "bytes"),
        (b"x", "a.png", "image"),
        ("x", "", "text"),
        ("k: 1", "a.yaml", "yaml"),
        ("x", "a.png", "text"),
        ({"k": 1}, "a", "yaml"),
        ([1], "", "yaml"),
        (None, "", "yaml"),
        (np.zeros((2, 2), "u1"), "", "image"),
        (PIL.Image.new("L", (1, 1)), "a.bin", "image"),
        (matplotlib.figure.Figure(), "", "image"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_format_is_told_from_object_and_name(obj, name, expected):
    """Objects say what they are; of bytes and paths the suffix does."""
    assert detect_format(obj, name) == expected


def test_an_object_of_no_format_is_refused():
    """The error says what can be saved."""
    with pytest.raises(InvalidInputError, match=r"h5py\.File"):
        detect_format(object())


def test_an_unknown_format_is_refused():
    """The error names the formats."""
    for call in (lambda: to_bytes(b"", "pickle"), lambda: from_bytes(b"", "pickle")):
        with pytest.raises(InvalidInputError, match="'hdf5', 'image'"):
            call()
    assert set(FORMATS) == {"hdf5", "image", "text", "yaml", "bytes"}


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (hdf5(), "hdf5"),
        (hdf5(userblock=1024), "hdf5"),
        (png(), "image"),
        ("ü\r\n".encode(), "text"),
        (b"k: [1, 2]\n", "yaml"),
        (b"\0\xff", "bytes"),
        (b"", "bytes"),
        (b"", "text"),
    ],
    ids=lambda value: str(value)[:12],
)
def test_content_is_kept_as_it_is(tmp_path, content, format_):
    """Bytes and paths are checked, and saved byte for byte."""
    path = tmp_path / "file"
    path.write_bytes(content)
    assert to_bytes(content, format_) == content
    assert to_bytes(bytearray(content), format_) == content
    assert to_bytes(path, format_) == content
    from_bytes(content, format_)


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (b"", "hdf5"),
        (b"HDF5", "hdf5"),
        (hdf5()[:100], "hdf5"),
        (b"", "image"),
        (b"\x89PNG", "image"),
        (png((64, 64))[:-30], "image"),
        (b"\xff", "text"),
        (b"\xff", "yaml"),
        (b"a: [", "yaml"),
        (b"a: 1\n b: 2", "yaml"),
        (b"!!python/object/apply:os.system ['true']", "yaml"),
        (b"[" * 400, "yaml"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_content_of_another_format_is_refused(content, format_):
    """What is not of the format is refused when it is saved, and when it is loaded."""
    with pytest.raises(InvalidInputError):
        from_bytes(content, format_)
    with pytest.raises(InvalidInputError):
        to_bytes(content, format_)


def test_a_missing_file_is_not_found(tmp_path):
    """A path that leads nowhere is an error; a folder is one too."""
    with pytest.raises(NotFoundError):
        to_bytes(tmp_path / "none", "bytes")
    with pytest.raises(InvalidInputError):
        to_bytes(tmp_path, "bytes")


@pytest.mark.parametrize("mode", ["w", "r"])
def test_an_open_hdf5_file_is_saved(tmp_path, mode):
    """An open file is saved with what was written so far, and stays open."""
    path = tmp_path / "a.h5"
    path.write_bytes(hdf5())
    with h5py.File(path, "r" if mode == "r" else "r+") as file:
        if mode == "w":
            file["y"] = [1, 2]
        content = to_bytes(file, "hdf5")
        assert file["x"][0] == 0
    with from_bytes(content, "hdf5") as found:
        np.testing.assert_array_equal(found["x"][()], np.arange(5.0))
        assert found["x"].attrs["unit"] == "m"
        assert ("y" in found) == (mode == "w")


def test_a_loaded_hdf5_file_is_read_only():
    """What is loaded is in memory, and cannot be written to."""
    with from_bytes(hdf5(), "hdf5") as file, pytest.raises((ValueError, OSError)):
        file["z"] = 1


def test_a_closed_hdf5_file_is_refused(tmp_path):
    """A closed file has no content: the error says so."""
    file = h5py.File(tmp_path / "a.h5", "w")
    file.close()
    with pytest.raises(InvalidInputError, match="closed"):
        to_bytes(file, "hdf5")


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="u1").reshape(2, 3),
        np.arange(18, dtype="u1").reshape(2, 3, 3),
        np.arange(24, dtype="u1").reshape(2, 3, 4)[::-1],
    ],
    ids=["grey", "RGB", "RGBA"],
)
def test_an_array_is_an_image(array):
    """An array of uint8 comes back pixel by pixel."""
    found = from_bytes(to_bytes(array, "image"), "image")
    assert found.format == "PNG"
    np.testing.assert_array_equal(np.asarray(found), array)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2)),
        np.zeros(4, "u1"),
        np.zeros((2, 2, 2), "u1"),
        np.zeros((0, 2), "u1"),
    ],
    ids=["floats", "1-d", "2 colours", "empty"],
)
def test_other_arrays_are_no_images(array):
    """The error says which arrays are images."""
    with pytest.raises(InvalidInputError, match="uint8"):
        to_bytes(array, "image")


def test_images_are_written_by_their_name():
    """The suffix chooses the image's format; one that is not known is refused."""
    image = PIL.Image.new("RGB", (8, 8), (200, 0, 0))
    assert from_bytes(to_bytes(image, "image", name="a.jpg"), "image").format == "JPEG"
    assert from_bytes(to_bytes(image, "image", name="a"), "image").format == "PNG"
    with pytest.raises(InvalidInputError, match=r"'\.pdf'"):
        to_bytes(image, "image", name="a.pdf")
    with pytest.raises(InvalidInputError, match=r"\.png"):
        to_bytes(PIL.Image.new("RGBA", (2, 2)), "image", name="a.jpg")


def test_a_figure_is_an_image():
    """A matplotlib figure becomes a picture; equal figures have equal bytes."""
    contents = []
    for _ in range(2):
        figure = matplotlib.figure.Figure(figsize=(2, 1), dpi=50)
        figure.add_subplot().plot([1, 2])
        contents.append(to_bytes(figure, "image", name="plot.png"))
    assert from_bytes(contents[0], "image").size == (100, 50)
    assert contents[0] == contents[1]


def test_a_decompression_bomb_is_refused(monkeypatch):
    """Pillow's guard against bombs is kept, and is an error of this package."""
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    content = png((20, 20))
    with pytest.raises(InvalidInputError, match="bomb"):
        from_bytes(content, "image")


def test_plain_data_is_yaml():
    """Plain data comes back from YAML in its order."""
    value = {"z": [1, 2.5, None], "a": {"t": date(2024, 1, 2), "s": "ü"}}
    content = to_bytes(value, "yaml")
    assert from_bytes(content, "yaml") == value
    assert list(from_bytes(content, "yaml")) == ["z", "a"]
    assert "ü".encode() in content


@pytest.mark.parametrize(
    ("obj", "format_"),
    [
        pytest.param(object(), "yaml", id="an object"),
        ({"k": np.float64(1)}, "yaml"),
        (1, "text"),
        ("\ud800", "text"),
        ("x", "bytes"),
        ("x", "hdf5"),
        ("x", "image"),
    ],
    ids=repr,
)
def test_objects_of_another_format_are_refused(obj, format_):
    """An object that does not fit the format is refused."""
    with pytest.raises(InvalidInputError):
        to_bytes(obj, format_)
