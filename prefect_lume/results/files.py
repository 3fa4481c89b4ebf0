"""Files as bytes and objects: HDF5, image, text, YAML, and any other bytes."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, Final, get_args

from prefect_lume._optional import require
from prefect_lume.errors import InvalidInputError, NotFoundError, clip, name_list
from prefect_lume.results.references import FileFormat

__all__ = ["FORMATS", "FileFormat", "detect_format", "from_bytes", "to_bytes"]

#: The formats that files are saved in.
FORMATS: Final[tuple[FileFormat, ...]] = get_args(FileFormat)

_SUFFIXES: Final[Mapping[str, FileFormat]] = {
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".he5"), "hdf5"),
    **dict.fromkeys(
        (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".webp"), "image"
    ),
    **dict.fromkeys((".txt", ".md", ".csv", ".log", ".in", ".json"), "text"),
    **dict.fromkeys((".yaml", ".yml"), "yaml"),
}
_PILLOW_FORMATS: Final[Mapping[str, str]] = {
    "": "PNG",
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WEBP",
}
_HDF5_SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
_LARGEST_YAML: Final = 64 << 20


def detect_format(obj: Any, name: str = "") -> FileFormat:
    """Return the format in which an object, or a file, is saved.

    Args:
        obj: A path (``pathlib``), whose suffix counts; or bytes or an object.
        name: The file's name. Its suffix counts for bytes and text, which say nothing
            of what they are.

    Returns:
        One of :data:`FORMATS`; ``"bytes"`` for bytes of no known suffix.

    Raises:
        InvalidInputError: Nothing is known that saves such an object.

    Example:
        >>> detect_format(Path("beam.h5")), detect_format("hello"), detect_format([1])
        ('hdf5', 'text', 'yaml')
    """
    if isinstance(obj, PurePath):
        return _by_suffix(name) or _by_suffix(obj.name) or "bytes"
    if isinstance(obj, bytes | bytearray | memoryview):
        return _by_suffix(name) or "bytes"
    kinds = _kinds(obj)
    if "h5py.File" in kinds:
        return "hdf5"
    if kinds & {"PIL.Image", "matplotlib.Figure", "numpy.ndarray"}:
        return "image"
    if isinstance(obj, str):
        return "yaml" if _by_suffix(name) == "yaml" else "text"
    if obj is None or isinstance(obj, bool | int | float | list | tuple | dict):
        return "yaml"
    raise InvalidInputError(
        f"An object of type {type(obj).__qualname__!r} cannot be saved as a file. Give "
        "a pathlib.Path, bytes, text, plain data, an open h5py.File, a PIL image, a "
        "matplotlib figure or a uint8 array."
    )


def to_bytes(obj: Any, format: FileFormat, *, name: str = "") -> bytes:  # noqa: A002
    r"""Return the content of the file that holds an object.

    Args:
        obj: A path (``pathlib``) or bytes, whose content is checked and kept as it
            is; or an object of the format: an open ``h5py.File``; a PIL image, a
            matplotlib figure or an array of uint8 (rows, columns, and 3 or 4 colours
            if any); text; plain data for YAML.
        format: One of :data:`FORMATS`.
        name: The file's name. An image is written in the format of its suffix, PNG
            if it has none.

    Returns:
        The file's content.

    Raises:
        InvalidInputError: The object does not fit the format.
        NotFoundError: There is no file at the path.
        MissingDependencyError: The format needs a package that is not installed.

    Example:
        >>> to_bytes({"k": 1.5}, "yaml")
        b'k: 1.5\n'
    """
    if format not in _WRITERS:
        raise InvalidInputError(
            f"{clip(repr(format), 40)} is no file format. Formats: "
            f"{name_list(_WRITERS)}."
        )
    if isinstance(obj, PurePath):
        obj = _read(obj)
    if isinstance(obj, bytes | bytearray | memoryview):
        data = bytes(obj)
        _CHECKS[format](data)
        return data
    return _WRITERS[format](obj, name)


def from_bytes(data: bytes, format: FileFormat) -> Any:  # noqa: A002
    """Return the object that a file's content holds.

    Args:
        data: The content.
        format: One of :data:`FORMATS`.

    Returns:
        For ``hdf5`` a read-only ``h5py.File`` in memory, for ``image`` a PIL image
        that is fully loaded, for ``text`` a string, for ``yaml`` plain data, else the
        bytes.

    Raises:
        InvalidInputError: The content is not of the format.
        MissingDependencyError: The format needs a package that is not installed.

    Example:
        >>> from_bytes(b"k: 1.5", "yaml")
        {'k': 1.5}
    """
    if format not in _READERS:
        raise InvalidInputError(
            f"{clip(repr(format), 40)} is no file format. Formats: "
            f"{name_list(_READERS)}."
        )
    return _READERS[format](data)


def _by_suffix(name: str) -> FileFormat | None:
    return _SUFFIXES.get(PurePath(name).suffix.lower())


def _kinds(obj: Any) -> set[str]:
    """Return what an object is, without importing what it may not be."""
    return {
        f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        for kind in type(obj).__mro__
    }


def _read(path: PurePath) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as exc:
        raise NotFoundError("file", str(path)) from exc
    except OSError as exc:
        raise InvalidInputError(
            f"The file {clip(path, 120)!r} cannot be read: {exc.strerror}."
        ) from exc


def _wrong(obj: Any, format_: str, allowed: str) -> InvalidInputError:
    return InvalidInputError(
        f"An object of type {type(obj).__qualname__!r} cannot be saved as {format_}. "
        f"Give {allowed}, bytes or a pathlib.Path."
    )


def _hdf5_bytes(obj: Any, _name: str) -> bytes:
    if "h5py.File" not in _kinds(obj):
        raise _wrong(obj, "hdf5", "an open h5py.File")
    if not obj:
        raise InvalidInputError(
            "The h5py.File is closed. Save it while it is open, or give its path."
        )
    if obj.mode != "r":
        obj.flush()
    return bytes(obj.id.get_file_image())


def _read_hdf5(data: bytes) -> Any:
    h5py = require("h5py", "Reading an HDF5 file")
    # A file may begin with a user block, whose size is 512 bytes or a power of 2 more.
    starts = [0, *(512 << power for power in range(24))]
    if not any(data[at : at + 8] == _HDF5_SIGNATURE for at in starts if at < len(data)):
        raise InvalidInputError("The content is no HDF5 file: it has no signature.")
    try:
        return h5py.File(io.BytesIO(data), "r")
    except (OSError, ValueError, KeyError, RuntimeError) as exc:
        raise InvalidInputError(
            f"The content is no HDF5 file that can be read: {clip(exc, 120)}"
        ) from exc


def _check_hdf5(data: bytes) -> None:
    _read_hdf5(data).close()


def _image_bytes(obj: Any, name: str) -> bytes:
    kinds = _kinds(obj)
    suffix = PurePath(name).suffix.lower()
    if suffix not in _PILLOW_FORMATS:
        raise InvalidInputError(
            f"An image is not written as {clip(repr(suffix), 40)}. Name the file with "
            f"one of {name_list(filter(None, _PILLOW_FORMATS))}, or save your own file "
            "as 'bytes'."
        )
    if "matplotlib.Figure" in kinds:
        return _figure_bytes(obj, suffix)
    if "numpy.ndarray" in kinds:
        obj = _array_image(obj)
    elif "PIL.Image" not in kinds:
        raise _wrong(obj, "image", "a PIL image, a matplotlib figure, a uint8 array")
    sink = io.BytesIO()
    try:
        obj.save(sink, format=_PILLOW_FORMATS[suffix])
    except (OSError, ValueError, KeyError) as exc:
        raise InvalidInputError(
            f"The image cannot be written as {suffix or '.png'}: {clip(exc, 120)}. Use "
            "a name ending in .png, which keeps every mode, or convert the image."
        ) from exc
    return sink.getvalue()


def _figure_bytes(figure: Any, suffix: str) -> bytes:
    sink = io.BytesIO()
    kind = suffix[1:] or "png"
    # Without the software's version two equal plots have equal bytes.
    metadata = {"metadata": {"Software": None}} if kind == "png" else {}
    try:
        figure.savefig(sink, format=kind, **metadata)
    except ValueError as exc:
        raise InvalidInputError(
            f"The figure cannot be written as {suffix}: {clip(exc, 120)}"
        ) from exc
    return sink.getvalue()


def _array_image(array: Any) -> Any:
    image = require("PIL.Image", "Saving an image")
    shape = array.shape
    colours = len(shape) == 3 and shape[2] in {3, 4}
    if str(array.dtype) != "uint8" or not (len(shape) == 2 or colours) or 0 in shape:
        raise InvalidInputError(
            f"An array of dtype {array.dtype} and shape {shape} is no image. Give "
            "uint8 of shape (rows, columns) or (rows, columns, 3 or 4)."
        )
    return image.fromarray(array)


def _read_image(data: bytes) -> Any:
    image = require("PIL.Image", "Reading an image")
    try:
        opened = image.open(io.BytesIO(data))
        opened.load()
    except image.DecompressionBombError as exc:
        raise InvalidInputError(
            f"The image is refused, because it may be a decompression bomb: {exc}"
        ) from exc
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as exc:
        raise InvalidInputError(
            f"The content is no image that can be read: {clip(exc, 120)}"
        ) from exc
    return opened


def _check_image(data: bytes) -> None:
    _read_image(data).close()


def _text_bytes(obj: Any, _name: str) -> bytes:
    if not isinstance(obj, str):
        raise _wrong(obj, "text", "a string")
    try:
        return obj.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise InvalidInputError(
            f"The text holds a lone surrogate at position {exc.start}, which is no "
            "Unicode character."
        ) from exc


def _read_text(data: bytes) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as exc:
        raise InvalidInputError(
            f"The content is no UTF-8 text (byte {exc.start}). Save it as 'bytes'."
        ) from exc


def _yaml_bytes(obj: Any, name: str) -> bytes:
    import yaml

    try:
        text = yaml.safe_dump(obj, allow_unicode=True, sort_keys=False)
    except (yaml.YAMLError, RecursionError) as exc:
        raise InvalidInputError(
            f"The object is no plain data, so it cannot be saved as yaml: "
            f"{clip(exc, 160)}. Use dicts, lists, text, numbers, dates and None."
        ) from exc
    return _text_bytes(text, name)


def _read_yaml(data: bytes) -> Any:
    import yaml

    if len(data) > _LARGEST_YAML:
        raise InvalidInputError(
            f"The YAML has {len(data)} bytes; {_LARGEST_YAML} are allowed. Save it as "
            "'text' or 'hdf5'."
        )
    try:
        return yaml.safe_load(_read_text(data))
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise InvalidInputError(
            f"The content is no YAML that can be read: {clip(exc, 200)}"
        ) from exc


def _raw_bytes(obj: Any, _name: str) -> bytes:
    raise _wrong(obj, "bytes", "a bytes-like object")


_WRITERS: Final[Mapping[str, Callable[[Any, str], bytes]]] = {
    "hdf5": _hdf5_bytes,
    "image": _image_bytes,
    "text": _text_bytes,
    "yaml": _yaml_bytes,
    "bytes": _raw_bytes,
}
_READERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "hdf5": _read_hdf5,
    "image": _read_image,
    "text": _read_text,
    "yaml": _read_yaml,
    "bytes": bytes,
}
_CHECKS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "hdf5": _check_hdf5,
    "image": _check_image,
    "text": _read_text,
    "yaml": _read_yaml,
    "bytes": len,
}
