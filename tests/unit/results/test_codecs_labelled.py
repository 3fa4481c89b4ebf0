"""xarray's labelled arrays and pint's quantities."""

import json
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pandas as pd
import pint
import pytest
import xarray as xr

from prefect_lume.errors import (
    DecodingError,
    EncodingError,
    IntegrityError,
    MissingDependencyError,
)
from prefect_lume.results.codecs import Lazy, canonical, decode, encode

UNITS = pint.get_application_registry()


def through(value, threshold=65536, **options):
    """Return a value after it was stored as JSON text."""
    encoded = encode(value, threshold=threshold)
    tree = json.loads(json.dumps(encoded.tree, allow_nan=False))
    return decode(tree, load_blob=encoded.blobs.__getitem__, **options)


def array(**changes):
    given = {
        "data": np.arange(6.0).reshape(2, 3),
        "dims": ("x", "t"),
        "coords": {
            "x": [1, 2],
            "t": pd.date_range("2024", periods=3, freq="D"),
            "label": ("x", ["a", "b"], {"long_name": "a label"}),
            "kind": ("x", pd.Categorical(["n", "s"])),
            "when": ("x", pd.date_range("2024", periods=2, tz="Europe/Berlin")),
            "text": ("t", pd.Index(["a", None, "ü"])),
            "shot": 7,
        },
        "name": "field",
        "attrs": {"units": "T", "range": (0, 1.5)},
    }
    return xr.DataArray(**{**given, **changes})


ARRAYS = {
    "coordinates of every kind": array(),
    "no name": array(name=None),
    "no coordinates": array(coords=None),
    "no index": array().drop_indexes("x"),
    "an index of another coordinate": array().set_xindex("label"),
    "several levels": array().drop_vars(["kind", "when"]).stack(z=("x", "t")),
    "0-d": xr.DataArray(2.5),
    "empty": xr.DataArray(np.zeros((2, 0)), dims=("a", "b")),
    "big-endian": xr.DataArray(np.arange(3, dtype=">i4"), dims="x"),
    "large": xr.DataArray(np.arange(20_000.0), dims="x"),
    "dataset": xr.Dataset(
        {"field": array(), "gain": ("t", [1, 2, 3])}, attrs={"run": 1}
    ),
    "empty dataset": xr.Dataset(),
    "variable": xr.Variable("x", [1, 2], {"units": "m"}),
}


@pytest.mark.parametrize("threshold", [0, 65536])
@pytest.mark.parametrize("name", ARRAYS)
def test_a_labelled_array_comes_back_the_same(name, threshold):
    """Values, dimensions, coordinates, indexes, names and attributes come back."""
    value = ARRAYS[name]
    found = through(value, threshold)
    assert type(found) is type(value)
    assert found.identical(value)
    if not isinstance(value, xr.Variable):
        kinds = {key: type(index) for key, index in value.xindexes.items()}
        assert {key: type(index) for key, index in found.xindexes.items()} == kinds
        dtypes = {key: held.dtype for key, held in value.coords.items()}
        assert {key: held.dtype for key, held in found.coords.items()} == dtypes
    assert canonical(encode(found).tree) == canonical(encode(value, threshold=0).tree)


def test_attributes_of_levels_come_back():
    """The coordinates of a MultiIndex keep what is said of them."""
    value = ARRAYS["several levels"].copy()
    value.coords["x"].attrs["units"] = "m"
    assert through(value).coords["x"].attrs == {"units": "m"}


def test_what_counts_of_a_labelled_array():
    """Values, names, attributes and coordinates count; the order of names does not."""
    value = canonical(encode(array()).tree)
    for other in (
        array(name="other"),
        array(attrs={}),
        array().assign_coords(shot=8),
        array().drop_indexes("x"),
        array() + 1,
    ):
        assert canonical(encode(other).tree) != value
    coords = dict(reversed(list(array().coords.items())))
    assert canonical(encode(array(coords=coords)).tree) == value


class Named(xr.DataArray):
    """A subclass, of which something would be lost."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        (array().assign_attrs(f=object()), "value.attrs.f", "cannot be stored"),
        (xr.DataArray([1], dims=[3]), "value", "dimension 3"),
        (xr.DataArray([1], dims="x", name=3), "value", "name 3"),
        (xr.Dataset({3: ("x", [1])}), "value", "variable 3"),
        (Named([1.0]), "value", "Named"),
        (
            array().copy(data=UNITS.Quantity(np.zeros((2, 3)), "m")),
            "value",
            "dequantify",
        ),
        (
            xr.Dataset({"a": ("x", np.array([object()]))}),
            "value.a[0]",
            "cannot be stored",
        ),
    ],
)
def test_what_cannot_be_stored_is_refused(value, path, words):
    """The error says where the value is and what is wrong with it."""
    with pytest.raises(EncodingError, match=words) as caught:
        encode(value)
    assert caught.value.path == path


def test_a_large_labelled_array_is_lazy():
    """Lazy loading leaves it in its blobs, wherever in it they are."""
    found = through({"a": ARRAYS["large"], "b": xr.DataArray(1.0)}, lazy=True)
    assert isinstance(found["a"], Lazy)
    assert found["a"].load().identical(ARRAYS["large"])
    assert isinstance(found["b"], xr.DataArray)


@pytest.mark.parametrize(
    "change",
    [
        {"dims": ["a", "a"]},
        {"dims": ["a"]},
        {"dims": "ab"},
        {"dims": [1, 2]},
        {"values": 1},
        {"values": [1, 2]},
        {"attrs": []},
        {"values": {"__lume__": "array", "v": 1}},
    ],
)
def test_malformed_variables_are_refused(change):
    """Names that do not fit the values, and what are none, are refused."""
    tree = encode(xr.Variable(("a", "b"), np.zeros((1, 2)))).tree
    assert decode(tree).dims == ("a", "b")
    with pytest.raises((DecodingError, IntegrityError)):
        decode({**tree, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"name": 3},
        {"variable": 1},
        {"coords": []},
        {"coords": {"x": 1}},
        {"indexes": ["nope"]},
        {"indexes": [{}]},
        {"stacked": {"x": 1}},
        {"stacked_attrs": []},
    ],
)
def test_malformed_arrays_are_refused(change):
    """Coordinates and indexes that do not fit are refused."""
    tree = encode(xr.DataArray([1.0], {"x": [1]}, "x")).tree
    with pytest.raises(DecodingError):
        decode({**tree, **change})


QUANTITIES = [
    UNITS.Quantity(5, "kg * m / s ** 2.5"),
    UNITS.Quantity(1.5, ""),
    UNITS.Quantity(20.5, "degC"),
    UNITS.Quantity(5, "delta_degC / m"),
    UNITS.Quantity(np.float32(3), "angstrom"),
    UNITS.Quantity(np.arange(3.0), "µm"),
    UNITS.Quantity(1j, "ohm"),
    UNITS.Quantity(2, "percent"),
]


@pytest.mark.parametrize("value", QUANTITIES, ids=str)
def test_a_quantity_comes_back_the_same(value):
    """Its magnitude, of the same type, and its units come back."""
    found = through(value)
    assert type(found.magnitude) is type(value.magnitude)
    assert np.array_equal(found.magnitude, value.magnitude)
    assert dict(found.unit_items()) == dict(value.unit_items())
    assert found._REGISTRY is UNITS.get()


def test_the_text_of_units_is_always_the_same():
    """How a registry shows units, and their order, do not count."""
    other = pint.UnitRegistry()
    other.formatter.default_format = "~P"
    first = encode(UNITS.Quantity(1, "m / s ** 2")).tree
    assert first["units"] == "meter * second ** -2"
    assert encode(other.Quantity(1, "1 / s ** 2 * m")).tree == first


@pytest.mark.parametrize(
    "value",
    [
        UNITS.Quantity(Fraction(1, 3), "m"),
        UNITS.Quantity(np.array([object()]), "m"),
        UNITS.Quantity(1.0, "m") ** 1e-30,
    ],
)
def test_quantities_without_a_stored_form_are_refused(value):
    """Magnitudes that are no numbers, and odd exponents, are refused."""
    with pytest.raises(EncodingError):
        encode(value)


@pytest.mark.parametrize(
    "units",
    [
        "nonsense",
        "9 ** 9 ** 9 ** 9",
        "meter ** 9 ** 9",
        "meter / second",
        "__class__",
        "meter * ",
        " * ".join(["meter"] * 200),
        3,
    ],
)
def test_units_are_not_computed(units):
    """Stored text is no arithmetic, and names units that the registry has."""
    tree = encode(UNITS.Quantity(1, "m")).tree
    with pytest.raises(DecodingError, match="unit"):
        decode({**tree, "units": units})


@pytest.mark.parametrize("magnitude", ["text", None, [1], True])
def test_stored_magnitudes_are_numbers(magnitude):
    """Nothing else becomes a quantity."""
    tree = encode(UNITS.Quantity(1, "m")).tree
    with pytest.raises(DecodingError, match="magnitude"):
        decode({**tree, "magnitude": magnitude})


@pytest.mark.parametrize(
    ("value", "package", "extra"),
    [(xr.DataArray(1.0), "xarray", "xarray"), (QUANTITIES[0], "pint", "units")],
)
def test_a_missing_package_names_its_extra(monkeypatch, value, package, extra):
    """Without the package, the error says what to install."""
    tree = encode(value).tree
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name == package:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(MissingDependencyError) as caught:
        decode(tree)
    assert (caught.value.package, caught.value.extra) == (package, extra)


def test_nothing_imports_the_packages_by_itself():
    """Arrays and tables are stored and loaded without xarray and pint."""
    code = (
        "import sys, numpy, pandas\n"
        "from prefect_lume.results.codecs import decode, encode\n"
        "decode(encode([numpy.zeros(2), pandas.DataFrame({'a': [1]})]).tree)\n"
        "assert not {'xarray', 'pint'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
