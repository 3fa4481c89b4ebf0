"""Codecs of xarray: variables, DataArrays and Datasets, without their encoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from prefect_lume._optional import require
from prefect_lume.errors import clip
from prefect_lume.results.codecs.base import Codec, Fields, Path, refusal

if TYPE_CHECKING:
    from prefect_lume.results.codecs.decoder import Decoder
    from prefect_lume.results.codecs.encoder import Encoder

_PURPOSE: Final = "Loading this labelled array"


class VariableCodec(Codec):
    """An xarray Variable: an array, the names of its dimensions, its attributes."""

    name = "xarray-variable"
    nested = True

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        _check_class(value, {"Variable", "IndexVariable"}, path)
        return self.envelope(
            dims=_names(value.dims, "dimension", path),
            values=encoder.encode(_values(value, path), path, depth + 1),
            **_attributes(value, encoder, path, depth),
        )

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        xarray, numpy = require("xarray", _PURPOSE), require("numpy")
        values = _inner(fields, decoder, "values")
        if not isinstance(values, numpy.ndarray):
            if not isinstance(values, require("pandas").Series):
                raise fields.error("needs an array or a column as 'values'")
            # xarray makes objects of zoned times, unless they are in an index.
            zoned = type(values.dtype).__name__ == "DatetimeTZDtype"
            values = require("pandas").Index(values) if zoned else values.array
        dims = _dims(fields)
        if len(dims) != values.ndim or len(set(dims)) != len(dims):
            raise fields.error("needs one name for each dimension")
        return xarray.Variable(dims, values, _read_attributes(fields, decoder))


class DataArrayCodec(Codec):
    """An xarray DataArray, with its name, coordinates, indexes and attributes."""

    name = "xarray-dataarray"
    nested = True

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        _check_class(value, {"DataArray"}, path)
        if value.name is not None:
            _names([value.name], "name", path)
        return self.envelope(
            name=value.name,
            variable=encoder.encode(value.variable, path, depth + 1),
            **_coordinates(value, encoder, path, depth),
        )

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        xarray = require("xarray", _PURPOSE)
        name = fields.tree("name")
        if not isinstance(name, str | None):
            raise fields.error("needs a string or null as 'name'")
        variable = _inner(fields, decoder, "variable")
        if type(variable) is not xarray.Variable:
            raise fields.error("needs a variable as 'variable'")
        found = xarray.DataArray(
            variable.data,
            _read_coordinates(fields, decoder),
            variable.dims,
            name,
            variable.attrs,
        )
        return _indexed(found, fields)


class DatasetCodec(Codec):
    """An xarray Dataset: variables that share coordinates."""

    name = "xarray-dataset"
    nested = True

    def encode(self, value: Any, encoder: Encoder, path: Path, depth: int) -> Any:
        _check_class(value, {"Dataset"}, path)
        _names(value.data_vars, "variable", path)
        variables = {name: held.variable for name, held in value.data_vars.items()}
        return self.envelope(
            variables=encoder.encode(variables, path, depth + 1),
            **_coordinates(value, encoder, path, depth),
            **_attributes(value, encoder, path, depth),
        )

    def decode(self, fields: Fields, decoder: Decoder) -> Any:
        found = require("xarray", _PURPOSE).Dataset(
            _variables(fields, decoder, "variables"),
            _read_coordinates(fields, decoder),
            _read_attributes(fields, decoder),
        )
        return _indexed(found, fields)


def _check_class(value: Any, allowed: set[str], path: Path) -> None:
    kind = type(value)
    if kind.__name__ not in allowed or not kind.__module__.startswith("xarray."):
        raise refusal(
            path,
            f"objects of the class {clip(kind.__qualname__, 60)!r} cannot be stored "
            "without losing what it adds to xarray's own. Store an object of that, "
            "and the rest beside it.",
        )


def _names(names: Any, what: str, path: Path) -> list[str]:
    kept = list(names)
    for name in kept:
        if type(name) is not str:
            raise refusal(
                path, f"the {what} {clip(repr(name), 60)} is no string. Rename it."
            )
    return kept


def _values(variable: Any, path: Path) -> Any:
    """Return a variable's numpy array, or its pandas column as a Series."""
    values = variable.data
    module = type(values).__module__.partition(".")[0]
    if module == "pandas":
        return require("pandas").Series(values)
    if module != "numpy":
        raise refusal(
            path,
            f"a labelled array of {clip(type(values).__module__, 60)} cannot be "
            "stored. Use numpy's: call compute(), or dequantify it.",
        )
    return values


def _attributes(value: Any, encoder: Encoder, path: Path, depth: int) -> dict[str, Any]:
    if not value.attrs:
        return {}
    return {"attrs": encoder.encode(dict(value.attrs), (*path, "attrs"), depth + 1)}


def _coordinates(
    value: Any, encoder: Encoder, path: Path, depth: int
) -> dict[str, Any]:
    """Return the fields of the coordinates, and of what is looked up by them."""
    place = (*path, "coords")
    _names(value.coords, "coordinate", place)
    plain = {name: held.variable for name, held in value.coords.items()}
    stacked, stacked_attrs, indexes = {}, {}, []
    for index, members in value.xindexes.group_by_index():
        kind = type(index).__name__
        if kind == "PandasMultiIndex":
            stacked[str(index.dim)] = index.index
            for name in members:
                if attrs := plain.pop(name).attrs:
                    stacked_attrs[name] = attrs
        elif kind == "PandasIndex":
            indexes.extend(members)
        else:
            raise refusal(
                (*place, *members),
                f"an index of the class {clip(kind, 60)!r} cannot be stored. Call "
                "drop_indexes() for it first.",
            )
    fields: dict[str, Any] = {"coords": encoder.encode(plain, place, depth + 1)}
    if indexes:
        fields["indexes"] = sorted(indexes)
    if stacked:
        fields["stacked"] = encoder.encode(stacked, place, depth + 1)
    if stacked_attrs:
        fields["stacked_attrs"] = encoder.encode(stacked_attrs, place, depth + 1)
    return fields


def _inner(fields: Fields, decoder: Decoder, key: str) -> Any:
    place = (*fields.path, key)
    return decoder.eager().decode(fields.tree(key), place, fields.depth + 1)


def _dict(fields: Fields, decoder: Decoder, key: str) -> dict[str, Any]:
    found = _inner(fields, decoder, key) if fields.has(key) else {}
    if type(found) is not dict:
        raise fields.error(f"needs a dict as {key!r}")
    return found


def _variables(fields: Fields, decoder: Decoder, key: str) -> dict[str, Any]:
    found = _dict(fields, decoder, key)
    kind = require("xarray").Variable
    if not all(type(variable) is kind for variable in found.values()):
        raise fields.error(f"needs variables as {key!r}")
    return found


def _read_attributes(fields: Fields, decoder: Decoder) -> dict[str, Any]:
    return _dict(fields, decoder, "attrs")


def _read_coordinates(fields: Fields, decoder: Decoder) -> Any:
    """Return the coordinates, those of a MultiIndex with it, others without index."""
    xarray = require("xarray")
    plain = _variables(fields, decoder, "coords")
    found = xarray.Coordinates(plain, indexes={})
    attrs = _dict(fields, decoder, "stacked_attrs")
    for dim, index in _dict(fields, decoder, "stacked").items():
        if type(index) is not require("pandas").MultiIndex:
            raise fields.error("needs indices of several levels as 'stacked'")
        more = xarray.Coordinates.from_pandas_multiindex(index, dim)
        for name in more:
            more[name].attrs.update(attrs.get(name, {}))
        found = found.assign(more)
    return found


def _indexed(found: Any, fields: Fields) -> Any:
    for name in fields.items("indexes") if fields.has("indexes") else []:
        if not isinstance(name, str) or name not in found.coords:
            raise fields.error("names an index that is no coordinate")
        found = found.set_xindex(name)
    return found


def _dims(fields: Fields) -> list[str]:
    dims = fields.items("dims")
    if not all(isinstance(name, str) for name in dims):
        raise fields.error("needs strings as 'dims'")
    return dims


_VARIABLE, _ARRAY, _DATASET = VariableCodec(), DataArrayCodec(), DatasetCodec()

CODECS: Final = (_VARIABLE, _ARRAY, _DATASET)
TYPES: Final[Mapping[type, Codec]] = {}
NAMES: Final[Mapping[str, Codec]] = {
    "xarray.Variable": _VARIABLE,
    "xarray.DataArray": _ARRAY,
    "xarray.Dataset": _DATASET,
}
