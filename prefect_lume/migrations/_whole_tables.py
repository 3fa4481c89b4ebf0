"""A table with its indices in one statement, where nothing takes changes back.

Alembic creates a table by one statement and each of its indices by another one. On
MySQL and MariaDB an upgrade that is killed between them would leave a table without
indices, which the next upgrade takes for finished.
"""

from __future__ import annotations

import re
from typing import Any, Final

from alembic.ddl.impl import DefaultImpl
from sqlalchemy import Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql.compiler import DDLCompiler

_STATEMENT: Final = re.compile(r"CREATE ((?:UNIQUE )?INDEX \S+) ON \S+ ")


class _CreateWholeTable(CreateTable):
    """``CREATE TABLE`` that names the indices too, as MySQL and MariaDB let it."""


@compiles(_CreateWholeTable)
def _compile(element: _CreateWholeTable, compiler: DDLCompiler, **options: Any) -> str:
    table: Table = element.element
    visitor: Any = compiler
    statement: str = visitor.visit_create_table(element, **options)
    body, end, rest = statement.rpartition("\n)")
    # A set has no order of its own.
    for index in sorted(table.indexes, key=lambda item: str(item.name)):
        created: str = visitor.visit_create_index(CreateIndex(index))
        body += ", \n\t" + _STATEMENT.sub(r"\1 ", created)
    return body + end + rest


def create_whole_tables(implementation: DefaultImpl) -> None:
    """Let the revisions that run now create each table by one statement.

    Args:
        implementation: Alembic's, of this run on MySQL or MariaDB. Other runs, and
            other programs' in this process, are left as they are.
    """

    def create_table(table: Table, **options: Any) -> None:
        implementation._exec(_CreateWholeTable(table, **options))

    setattr(implementation, "create_table", create_table)  # noqa: B010 - a method.
