"""What a package's code says, read from its syntax tree and never executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from prefect_lume.errors import PackageError, clip


@dataclass
class ModuleSource:
    """One module's source.

    Attributes:
        where: The file, for messages.
        text: Its source.
    """

    where: str
    text: str
    _body: list[ast.stmt] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            self._body = ast.parse(self.text).body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
            line = getattr(exc, "lineno", None)
            place = f" (line {line})" if line else ""
            reason = clip(getattr(exc, "msg", "") or type(exc).__name__, 120)
            raise PackageError(f"{self.where} is not Python{place}: {reason}.") from exc

    def statements(self) -> Iterator[ast.stmt]:
        """Yield the statements of the module, those inside if, try and with too."""
        yield from _flat(self._body)

    def assigned(self, name: str) -> ast.expr | None:
        """Return what the module assigns to a name, the last time that it does."""
        found: ast.expr | None = None
        for statement in self.statements():
            for target, value in _assignments(statement):
                if target == name:
                    found = value
        return found

    def plain(self, name: str) -> str | None:
        """Return the text that the module assigns to a name, if that is plain text."""
        value = self.assigned(name)
        found = value.value if isinstance(value, ast.Constant) else None
        return found if isinstance(found, str) else None

    def literal(self, name: str) -> str | None:
        """Return the text that the module assigns to a name.

        Returns:
            The text; ``None`` when nothing, or ``None``, is assigned.

        Raises:
            PackageError: Something else is assigned, which only running it can tell.
        """
        value = self.assigned(name)
        if value is None or _is_none(value):
            return None
        plain = self.plain(name)
        if plain is not None:
            return plain
        raise PackageError(
            f"{self.where} (line {value.lineno}): {name} must be plain text in quotes. "
            "The package is read without running its code."
        )

    def flows(self) -> dict[str, str]:
        """Return the flows that the module defines: flow name → attribute.

        Functions decorated with Prefect's ``flow``, with or without arguments, and
        assignments such as ``track = flow(name="track")(_track)``.

        Raises:
            PackageError: A name cannot be read without running the code, or two flows
                share one.
        """
        prefect = _PrefectNames(self.statements())
        found: dict[str, str] = {}
        for statement in self.statements():
            for attribute, name in self._flows_of(statement, prefect):
                if found.setdefault(name, attribute) != attribute:
                    raise PackageError(
                        f"{self.where}: {found[name]!r} and {attribute!r} are both "
                        f"the flow {name!r}. Give one of them another name."
                    )
        return found

    def _flows_of(
        self, statement: ast.stmt, prefect: _PrefectNames
    ) -> Iterator[tuple[str, str]]:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            for decorator in statement.decorator_list:
                if prefect.is_flow(decorator):
                    yield statement.name, self._name(decorator, statement.name)
        for target, value in _assignments(statement):
            call = value if isinstance(value, ast.Call) else None
            if call is None or not call.args or not prefect.is_flow(call.func):
                continue
            wrapped = call.args[0]
            default = wrapped.id if isinstance(wrapped, ast.Name) else target
            # Either flow(function, name=...) or flow(name=...)(function).
            inner = call.func if isinstance(call.func, ast.Call) else call
            yield target, self._name(inner, default)

    def _name(self, decorator: ast.expr, function: str) -> str:
        default = function.replace("_", "-")
        if not isinstance(decorator, ast.Call):
            return default
        given = [word.value for word in decorator.keywords if word.arg == "name"]
        if not given:
            return default
        value = given[0]
        if isinstance(value, ast.Name):
            return self.literal(value.id) or default
        if _is_none(value):
            return default
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            return value.value
        raise PackageError(
            f"{self.where} (line {value.lineno}): the name of the flow {function!r} "
            "must be plain text in quotes. The package is read without running its "
            "code."
        )


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for statement in body:
        yield statement
        if isinstance(statement, ast.If | ast.Try | ast.With):
            for part in ("body", "orelse", "finalbody"):
                yield from _flat(getattr(statement, part, []))
            for handler in getattr(statement, "handlers", []):
                yield from _flat(handler.body)


def _assignments(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(statement, ast.Assign):
        for target in statement.targets:
            if isinstance(target, ast.Name):
                yield target.id, statement.value
    elif isinstance(statement, ast.AnnAssign):
        target, value = statement.target, statement.value
        if isinstance(target, ast.Name) and value is not None:
            yield target.id, value


class _PrefectNames:
    """By which names a module knows Prefect and its ``flow``."""

    def __init__(self, statements: Iterator[ast.stmt]) -> None:
        self._flow: set[str] = set()
        self._modules: set[str] = set()
        for statement in statements:
            if isinstance(statement, ast.Import):
                for alias in statement.names:
                    if alias.name in {"prefect", "prefect.flows"}:
                        self._modules.add(alias.asname or alias.name)
                        if alias.asname is None:
                            self._modules.add("prefect")
            elif (
                isinstance(statement, ast.ImportFrom)
                and statement.level == 0
                and statement.module in {"prefect", "prefect.flows"}
            ):
                for alias in statement.names:
                    if alias.name == "flow":
                        self._flow.add(alias.asname or "flow")
                    elif alias.name == "flows":
                        self._modules.add(alias.asname or "flows")

    def is_flow(self, node: ast.expr) -> bool:
        """Return whether an expression is Prefect's ``flow``, called or not."""
        if isinstance(node, ast.Call):
            return self.is_flow(node.func)
        if isinstance(node, ast.Name):
            return node.id in self._flow
        return (
            isinstance(node, ast.Attribute)
            and node.attr == "flow"
            and ast.unparse(node.value) in self._modules
        )
