"""Finds the tasks of a flow by reading its code, without running it."""

from __future__ import annotations

import ast
import inspect
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any, Final

from prefect import Flow, Task

#: Code that picks its tasks while it runs: which ones cannot be told.
_DYNAMIC: Final = frozenset(
    {"getattr", "globals", "eval", "exec", "__import__", "import_module", "vars"}
)
_MOST_FUNCTIONS: Final = 500


def find_tasks(flow: Flow[..., Any]) -> dict[str, Task[..., Any]] | None:
    """Return the tasks that a flow's code refers to, by name.

    Followed are globals, closures, attributes of modules, containers and classes, the
    functions of the flow's package, and names given as constants to
    ``with_options(name=...)``.

    Args:
        flow: The flow.

    Returns:
        Task name → task; ``None`` when the code chooses its tasks while it runs, so
        that no name can be called wrong.
    """
    search = _Search(flow)
    try:
        search.function(flow.fn)
    except _UnknownError:
        return None
    return search.found


class _UnknownError(Exception):
    """Which tasks there are cannot be told."""


class _Search:
    def __init__(self, flow: Flow[..., Any]) -> None:
        self.found: dict[str, Task[..., Any]] = {}
        self._package = _package(flow.fn)
        self._seen: set[int] = set()

    def function(self, function: Callable[..., Any]) -> None:
        """Look through one function's code."""
        function = inspect.unwrap(function)
        code = getattr(function, "__code__", None)
        if code is None or id(code) in self._seen:
            return
        if len(self._seen) > _MOST_FUNCTIONS:
            raise _UnknownError
        self._seen.add(id(code))
        self._local_names(function, code)
        names = {name for part in _codes(code) for name in part.co_names}
        if names & _DYNAMIC:
            raise _UnknownError
        scope = getattr(function, "__globals__", {})
        for name in names:
            if name in scope:
                self._value(scope[name], names)
        for cell in getattr(function, "__closure__", None) or ():
            try:
                self._value(cell.cell_contents, names)
            except ValueError:  # An empty cell: assigned later.
                raise _UnknownError from None

    def _value(self, value: Any, names: set[str], depth: int = 0) -> None:
        if isinstance(value, Task):
            self._task(value)
        elif isinstance(value, types.ModuleType):
            for name in names:
                member = value.__dict__.get(name)
                if isinstance(member, Task | types.FunctionType):
                    self._value(member, names, depth)
        elif isinstance(value, types.FunctionType | types.MethodType):
            if self._ours(value):
                self.function(value)
        elif isinstance(value, list | tuple | set | frozenset):
            self._each(value, names, depth)
        elif isinstance(value, dict):
            self._each(value.values(), names, depth)
        elif not isinstance(value, Flow):  # Its tasks belong to a run of its own.
            self._class(value if isinstance(value, type) else type(value), names, depth)

    def _task(self, task: Task[..., Any]) -> None:
        if task.name not in self.found:
            self.found[task.name] = task
            self.function(task.fn)

    def _each(self, values: Any, names: set[str], depth: int) -> None:
        if depth < 3:
            for value in values:
                self._value(value, names, depth + 1)

    def _class(self, kind: type, names: set[str], depth: int) -> None:
        if kind.__module__.partition(".")[0] == self._package and id(kind) not in (
            self._seen
        ):
            self._seen.add(id(kind))
            self._each(
                [
                    member
                    for member in vars(kind).values()
                    if isinstance(member, Task | types.FunctionType)
                ],
                names,
                depth,
            )

    def _ours(self, function: Any) -> bool:
        if _package(function) == self._package:
            return True
        scope = getattr(function, "__globals__", {})
        return any(isinstance(value, Task) for value in scope.values())

    def _local_names(self, function: Callable[..., Any], code: types.CodeType) -> None:
        """Add the names that code gives to tasks, or makes tasks of."""
        if not {"with_options", "task"} & {
            name
            for part in _codes(code)
            for name in (*part.co_names, *part.co_varnames)
        }:
            return
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, TypeError, SyntaxError):
            raise _UnknownError from None
        outer = next(ast.walk(tree), None)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and _called(node) in {"with_options", "task"}:
                for name in _constant_names(node):
                    self.found.setdefault(name, Task(fn=_nothing, name=name))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = node is not outer and node.name != getattr(
                    function, "__name__", ""
                )
                if inner and any(
                    _called(item) == "task" for item in node.decorator_list
                ):
                    self.found.setdefault(node.name, Task(fn=_nothing, name=node.name))


def _nothing() -> None:
    """Stand in for the function of a task that is made while the flow runs."""


def _called(node: ast.AST) -> str:
    if isinstance(node, ast.Call):
        return _called(node.func)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _constant_names(call: ast.Call) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg is None:
            raise _UnknownError
        if keyword.arg == "name":
            if not isinstance(keyword.value, ast.Constant):
                raise _UnknownError
            yield str(keyword.value.value)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _package(function: Any) -> str:
    return str(getattr(function, "__module__", "") or "").partition(".")[0]
