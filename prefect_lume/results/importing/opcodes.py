"""A reader of the pickles that hold numpy arrays. It never runs one.

A pickle is a program for a small machine. Python's own machine imports what the
program names and calls it. This one knows the few operations that the pickle of an
array is made of, and for each name that may occur in it a function of this module,
which notes what was said and makes nothing. What comes out is a description, of which
:mod:`prefect_lume.results.importing.arrays` makes an array once all of it is checked.
Neither the module ``pickle`` nor any code of numpy sees what the pickle says.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prefect_lume.errors import DecodingError, clip

#: The largest pickle that is read, in bytes. Documents in MongoDB hold less.
LARGEST: Final = 64 << 20
#: The most operations that a pickle may take.
MOST_OPERATIONS: Final = 2_000_000


def refusal(reason: str) -> DecodingError:
    """Return the error of a pickle that is not read."""
    return DecodingError("", f"the pickle is not read: {reason}.")


@dataclass(frozen=True, eq=False)
class Name:
    """Something that a pickle may name.

    Attributes:
        name: The function or class, without its module.
    """

    name: str


@dataclass(eq=False)
class DTypeState:
    """What a pickle says of a dtype: its code, and then its state."""

    code: str
    state: tuple[Any, ...] | None = None


@dataclass(eq=False)
class ArrayState:
    """What a pickle says of an array.

    Attributes:
        state: Shape, dtype, whether in Fortran's order, and the content: bytes, or a
            list for an array of objects.
    """

    state: tuple[Any, Any, Any, Any] | None = None


@dataclass(frozen=True, eq=False)
class ScalarState:
    """What a pickle says of a numpy scalar."""

    dtype: DTypeState
    content: Any


_MODULES: Final[Mapping[str, frozenset[str]]] = {
    "numpy": frozenset({"ndarray", "dtype"}),
    "numpy.core.multiarray": frozenset({"_reconstruct", "scalar"}),
    "numpy._core.multiarray": frozenset({"_reconstruct", "scalar"}),
    "numpy.core.numeric": frozenset({"_frombuffer"}),
    "numpy._core.numeric": frozenset({"_frombuffer"}),
    "_codecs": frozenset({"encode"}),
    # The empty bytes, in pickles of protocol 2.
    "__builtin__": frozenset({"bytes"}),
    "builtins": frozenset({"bytes"}),
}


def _reconstruct(*args: Any) -> ArrayState:
    kind, _, _ = args
    if not (isinstance(kind, Name) and kind.name == "ndarray"):
        raise refusal("it holds a subclass of numpy.ndarray")
    return ArrayState()


def _dtype(*args: Any) -> DTypeState:
    code = args[0]
    if not isinstance(code, str):
        raise refusal("a dtype has no code")
    return DTypeState(code)


def _scalar(*args: Any) -> ScalarState:
    dtype, content = args
    if not isinstance(dtype, DTypeState):
        raise refusal("a scalar has no dtype")
    return ScalarState(dtype, content)


def _frombuffer(*args: Any) -> ArrayState:
    content, dtype, shape, order = args
    return ArrayState((shape, dtype, order == "F", content))


def _encode(*args: Any) -> bytes:
    text, codec = args
    if codec not in {"latin1", "latin-1"} or not isinstance(text, str):
        raise refusal(f"it asks for the codec {clip(repr(codec), 40)}")
    return text.encode("latin-1")


def _bytes(*args: Any) -> bytes:
    if args:
        raise refusal("it asks for bytes(...) of something")
    return b""


_MAKERS: Final[Mapping[str, Callable[..., Any]]] = {
    "_reconstruct": _reconstruct,
    "dtype": _dtype,
    "scalar": _scalar,
    "_frombuffer": _frombuffer,
    "encode": _encode,
    "bytes": _bytes,
}


class _Machine:
    """Reads the operations of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        stream = io.BytesIO(data)
        for _ in range(MOST_OPERATIONS):
            opcode = _KNOWN.get(stream.read(1))
            if opcode is None:
                raise refusal("it ends early, or uses an operation no array needs")
            name = opcode.name
            if name == "GLOBAL":
                argument: Any = (stream.readline()[:-1], stream.readline()[:-1])
            else:
                argument = opcode.arg.reader(stream) if opcode.arg else None
            if name == "STOP":
                return self.stack.pop()
            if name in _PUSHED:
                self.stack.append(argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name in _OPERATIONS:
                _OPERATIONS[name](self, argument)
        raise refusal(f"it takes more than {MOST_OPERATIONS} operations")

    def _from_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _last(self, count: int) -> tuple[Any, ...]:
        items = tuple(self.stack[-count:])
        if len(items) < count:
            raise refusal("it takes more than it has")
        del self.stack[-count:]
        return items

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def tuple_mark(self, _: Any) -> None:
        items = self._from_mark()
        self.stack.append((*items,))

    def tuple_1(self, _: Any) -> None:
        self.stack.append(self._last(1))

    def tuple_2(self, _: Any) -> None:
        self.stack.append(self._last(2))

    def tuple_3(self, _: Any) -> None:
        self.stack.append(self._last(3))

    def empty_list(self, _: Any) -> None:
        self.stack.append([])

    def empty_dict(self, _: Any) -> None:
        self.stack.append({})

    def append(self, _: Any) -> None:
        (item,) = self._last(1)
        self._extend([item])

    def appends(self, _: Any) -> None:
        self._extend(self._from_mark())

    def _extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise refusal("it appends to what is no list")
        self.stack[-1].extend(items)

    def set_item(self, _: Any) -> None:
        self._update([*self._last(2)])

    def set_items(self, _: Any) -> None:
        self._update(self._from_mark())

    def _update(self, items: list[Any]) -> None:
        target, keys = self.stack[-1], items[::2]
        if type(target) is not dict or not all(type(key) is str for key in keys):
            raise refusal("it sets items of what is no dict with text for keys")
        target.update(zip(keys, items[1::2], strict=True))

    def put(self, position: Any) -> None:
        self.memo[position] = self.stack[-1]

    def memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, position: Any) -> None:
        self.stack.append(self.memo[position])

    def name(self, argument: Any) -> None:
        module, name = argument
        self._named(module.decode("ascii"), name.decode("ascii"))

    def stack_name(self, _: Any) -> None:
        self._named(*self._last(2))

    def _named(self, module: Any, name: Any) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise refusal("a name in it is no text")
        if name not in _MODULES.get(module, ()):
            asked = clip(f"{module}.{name}", 120)
            raise refusal(f"it asks for {asked!r}, and may only ask for numpy's arrays")
        self.stack.append(Name(name))

    def reduce(self, _: Any) -> None:
        what, args = self._last(2)
        if not isinstance(what, Name) or type(args) is not tuple:
            raise refusal("it calls what cannot be called")
        if what.name not in _MAKERS:
            raise refusal(f"it calls {what.name!r}")
        self.stack.append(_MAKERS[what.name](*args))

    def build(self, _: Any) -> None:
        (state,) = self._last(1)
        target = self.stack[-1]
        if not isinstance(target, ArrayState | DTypeState) or target.state is not None:
            raise refusal("it changes something other than a new array")
        if type(state) is not tuple:
            raise refusal("the state of an array is no tuple")
        if isinstance(target, DTypeState):
            target.state = state
        else:
            _, shape, dtype, fortran, content = state
            target.state = (shape, dtype, fortran, content)


_PUSHED: Final = frozenset(
    {
        "BININT",
        "BININT1",
        "BININT2",
        "LONG1",
        "LONG4",
        "BINFLOAT",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINUNICODE8",
        "BINBYTES",
        "SHORT_BINBYTES",
        "BINBYTES8",
        "BYTEARRAY8",
    }
)
_CONSTANTS: Final[Mapping[str, Any]] = {
    "NONE": None,
    "NEWTRUE": True,
    "NEWFALSE": False,
    "EMPTY_TUPLE": (),
}
_OPERATIONS: Final[Mapping[str, Callable[[_Machine, Any], None]]] = {
    "MARK": _Machine.mark,
    "TUPLE": _Machine.tuple_mark,
    "TUPLE1": _Machine.tuple_1,
    "TUPLE2": _Machine.tuple_2,
    "TUPLE3": _Machine.tuple_3,
    "EMPTY_LIST": _Machine.empty_list,
    "EMPTY_DICT": _Machine.empty_dict,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name,
    "REDUCE": _Machine.reduce,
    "BUILD": _Machine.build,
}


# An operation that is not here is not even read.
_KNOWN: Final = {
    opcode.code.encode("latin-1"): opcode
    for opcode in pickletools.opcodes
    if opcode.name in {"PROTO", "FRAME", "STOP", *_PUSHED, *_CONSTANTS, *_OPERATIONS}
}


def is_pickle(data: bytes) -> bool:
    r"""Tell whether bytes begin as a pickle does (of protocol 2 or later).

    Example:
        >>> is_pickle(b"\x80\x02N."), is_pickle(b"\x89PNG")
        (True, False)
    """
    return len(data) > 1 and data[0] == 0x80 and 2 <= data[1] <= 5


def read_pickle(data: bytes) -> Any:
    """Return what a pickle describes, with states in place of arrays and dtypes.

    Args:
        data: The pickle.

    Returns:
        Plain values, :class:`ArrayState`, :class:`DTypeState`, :class:`ScalarState`.

    Raises:
        DecodingError: The pickle is too large or malformed, or names anything but
            what numpy's arrays are made of.
    """
    if len(data) > LARGEST:
        raise refusal(f"it has {len(data)} bytes, more than {LARGEST}")
    try:
        return _Machine().run(data)
    except (
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise refusal(f"it is malformed ({clip(error, 120)})") from error
