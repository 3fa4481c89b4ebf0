"""Find stored results: by query, by index, as a table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prefect_lume.errors import (
    AmbiguousError,
    NotFoundError,
    QueryError,
    clip,
    name_list,
)
from prefect_lume.results import query as language
from prefect_lume.results.asked import as_asked
from prefect_lume.results.codecs import VerifiedLoader, decode
from prefect_lume.results.documents import (
    DocumentBase,
    Result,
    from_document,
    resolve_model_docs,
)
from prefect_lume.results.stored import verify_document
from prefect_lume.results.stores.base import HEADER, DBService
from prefect_lume.results.stores.indices import declared, unique_condition

if TYPE_CHECKING:
    import pandas as pd

Query = Mapping[str, Any] | None
ResultType = str | type[DocumentBase]


class ResultsFinder:
    """Finds results in a results database; the half of the service that only reads."""

    def __init__(self, db_service: DBService, model_docs: object = None) -> None:
        """Keep a results database; nothing is connected yet.

        Args:
            db_service: The results database.
            model_docs: Document types beside the registered ones: a mapping of names
                to classes, a subclass of ``ModelDocs``, or an enum of classes.
        """
        self.db_service = db_service
        self._model_docs = model_docs
        resolve_model_docs(model_docs)

    @property
    def model_docs(self) -> dict[str, type[DocumentBase]]:
        """Every document type that this service knows, by name."""
        return resolve_model_docs(self._model_docs)

    def _decode(
        self, tree: Mapping[str, Any], *, lazy: bool = False, verify: bool = True
    ) -> Any:
        if verify:
            verify_document(tree)
        # The store has verified what it returns: once is enough.
        load_blob = VerifiedLoader(self.db_service.get_blob)
        result = from_document(tree, self.model_docs, load_blob, lazy=lazy)
        if verify and tree["format"] == 1 and isinstance(result, Result):
            # The form without a checksum: at least what the hash covers.
            result.verify()
        return result

    def _require_project(self, project_name: str) -> None:
        known = self.db_service.collections()
        if project_name not in known:
            raise NotFoundError(
                "project with results named", project_name, known
            ) from None

    def find(
        self,
        project_name: str,
        query: Query = None,
        *,
        result_type: ResultType | None = None,
        sort: language.Sort = None,
        skip: int = 0,
        limit: int | None = None,
        projection: Iterable[str] | None = None,
        lazy: bool = False,
        verify: bool = True,
    ) -> Iterator[Any]:
        """Yield the results of a project that match a query, one by one.

        Args:
            project_name: The project.
            query: In the documented subset of MongoDB's language, for example
                ``{"inputs.charge": {"$gte": 1e-9}, "flow_run_id": "..."}``.
            result_type: Only results of this type.
            sort: Field names, with a leading ``-`` for descending order, or pairs of
                name and 1 or -1. None means by ``date_modified``.
            skip: How many results to leave out at the start.
            limit: The most results to yield.
            projection: Fields to load; the others are missing or empty. What
                describes the result (its type, hash, flow...) is always there.
            lazy: Leave large values in the database until they are asked for.
            verify: Check that no document was changed in the database; where a
                projection leaves parts of it out, only values that left the document
                can be.

        Returns:
            An iterator of documents.

        Raises:
            QueryError: The query is outside the language.
            NotFoundError: No project of that name has results.
            IntegrityError: A document, or a value that left it, was changed in the
                database. It is raised when the iterator comes to it.
        """
        whole = verify and projection is None
        trees = self._find_trees(
            project_name, query, result_type, sort, skip, limit, projection
        )
        return (self._decode(tree, lazy=lazy, verify=whole) for tree in trees)

    def _find_trees(
        self,
        project_name: str,
        query: Query,
        result_type: ResultType | None,
        sort: language.Sort = None,
        skip: int = 0,
        limit: int | None = None,
        projection: Iterable[str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        language.check_page(skip, limit)
        prepared = with_type(language.prepare(query), result_type)
        pairs = language.prepare_sort(sort)
        paths = language.prepare_projection(projection)
        if paths is not None:
            paths = language.prepare_projection([*HEADER, *paths], stored=True)
        found = self.db_service.find(project_name, prepared, pairs, skip, limit, paths)
        found = as_asked(found, prepared, self.db_service.where)
        first = next(found, None)
        if first is None:
            self._require_project(project_name)
            return iter(())
        return itertools.chain([first], found)

    def find_one(
        self,
        project_name: str,
        query: Query = None,
        *,
        result_type: ResultType | None = None,
        sort: language.Sort = None,
        lazy: bool = False,
    ) -> Any:
        """Return the first result that matches a query.

        Args:
            project_name: The project.
            query: As in :meth:`find`.
            result_type: Only results of this type.
            sort: As in :meth:`find`; ``"-date_modified"`` asks for the newest.
            lazy: Leave large values in the database until they are asked for.

        Raises:
            NotFoundError: No result matches, or the project has none.
        """
        for result in self.find(
            project_name,
            query,
            result_type=result_type,
            sort=sort,
            limit=1,
            lazy=lazy,
        ):
            return result
        raise NotFoundError(
            f"result in the project {project_name!r} that matches", dict(query or {})
        )

    def find_by_index(
        self,
        project_name: str,
        result_type: ResultType,
        values: Mapping[str, Any],
        *,
        sort: language.Sort = None,
        lazy: bool = False,
    ) -> Iterator[Any]:
        """Yield the results that have given values in the fields of an index.

        Args:
            project_name: The project.
            result_type: A document type, which declares the index.
            values: Field name → value, for the first fields of one index, or all.
            sort: As in :meth:`find`.
            lazy: Leave large values in the database until they are asked for.

        Raises:
            QueryError: The type declares no such index. The message names those it has.
        """
        document = self._document_type(result_type)
        offered = [
            [field.removeprefix("-") for field in index.fields]
            for index in document.indices
        ]
        wanted = set(values)
        if not wanted or not any(
            set(fields[: len(wanted)]) == wanted for fields in offered
        ):
            raise QueryError(
                f"{document.result_type!r} has no index that starts with "
                f"{name_list(wanted)}. It has: "
                f"{'; '.join(', '.join(fields) for fields in offered) or 'none'}. "
                f"Use find() for other fields."
            )
        query = {field: {"$eq": value} for field, value in values.items()}
        return self.find(
            project_name, query, result_type=document, sort=sort, lazy=lazy
        )

    def find_by_unique_field(
        self,
        project_name: str,
        field: str,
        value: Any,
        *,
        result_type: ResultType | None = None,
        lazy: bool = False,
    ) -> Any:
        """Return the one result that has a value in a field which is unique.

        Args:
            project_name: The project.
            field: ``unique_hash``, or a field with a unique index.
            value: The value.
            result_type: The type that declares the unique index. It may be left out
                for ``unique_hash``.
            lazy: Leave large values in the database until they are asked for.

        Raises:
            QueryError: The field is not unique.
            NotFoundError: No result has that value.
            AmbiguousError: Several have it, stored before the index was declared.
        """
        query: dict[str, Any] = {field: {"$eq": value}}
        if field not in {"unique_hash", "_id"}:
            condition = self._require_unique(field, result_type)
            query = {"$and": [query, condition]} if condition else query
        found = list(
            self.find(
                project_name,
                query,
                result_type=result_type,
                limit=2,
                lazy=lazy,
            )
        )
        if not found:
            raise NotFoundError(
                f"result in the project {project_name!r} with the {field}", value
            )
        if len(found) > 1:
            raise AmbiguousError(
                f"Several results of the project {project_name!r} have the {field} "
                f"{clip(repr(value), 80)}."
            )
        return found[0]

    def _require_unique(
        self, field: str, result_type: ResultType | None
    ) -> dict[str, Any]:
        """Return what a query for a unique field must hold besides.

        Raises:
            QueryError: The field is not unique.
        """
        if result_type is None:
            raise QueryError(
                f"Say which result_type makes {field!r} unique, or look for the "
                f"unique_hash."
            )
        document = self._document_type(result_type)
        condition = unique_condition(document, field)
        if condition is None:
            unique = [
                index.fields[0]
                for index in declared(document)
                if index.unique and len(index.fields) == 1
            ]
            raise QueryError(
                f"{field!r} is not unique in {document.result_type!r}. Unique are: "
                f"{name_list(['unique_hash', *unique])}."
            )
        return condition

    def _document_type(self, result_type: ResultType) -> type[DocumentBase]:
        if not isinstance(result_type, str):
            return result_type
        docs = self.model_docs
        if result_type not in docs:
            raise NotFoundError("document type", result_type, docs)
        return docs[result_type]

    def count(
        self,
        project_name: str,
        query: Query = None,
        *,
        result_type: ResultType | None = None,
    ) -> int:
        """Return how many results of a project match a query; 0 for a new project."""
        prepared = with_type(language.prepare(query), result_type)
        return self.db_service.count(project_name, prepared)

    def distinct(
        self,
        project_name: str,
        field: str,
        query: Query = None,
        *,
        result_type: ResultType | None = None,
    ) -> list[Any]:
        """Return the distinct values of a field, sorted; of a list its elements.

        Example: ``service.distinct("injector", "flow_run_id")``.
        """
        prepared = with_type(language.prepare(query), result_type)
        (path,) = language.prepare_projection([field]) or [field]
        values = self.db_service.distinct(project_name, path, prepared)
        return [
            decode(
                value, load_blob=VerifiedLoader(self.db_service.get_blob), path=field
            )
            for value in values
        ]

    def load_dataframe(
        self,
        project_name: str,
        query: Query = None,
        columns: Iterable[str] | None = None,
        *,
        result_type: ResultType | None = None,
        sort: language.Sort = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """Return results as a table: one row each, with where they come from.

        Args:
            project_name: The project.
            query: As in :meth:`find`.
            columns: Fields such as ``"inputs.charge"`` or ``"outputs.table"``, whatever
                they hold. None takes every field of inputs and outputs that holds a
                number, text, date or truth value in one result at least.
            result_type: Only results of this type.
            sort: As in :meth:`find`.
            limit: The most rows.

        Returns:
            A pandas DataFrame with the columns ``unique_hash``, ``result_type``,
            ``project_name``, ``flow_id``, ``flow_run_id``, ``deployment_id`` and
            ``date_modified``, then ``inputs...`` and ``outputs...``. What a result
            lacks is missing there.

        Raises:
            MissingDependencyError: pandas is not installed (extra ``tables``).
        """
        from prefect_lume.results.frames import before_index, load_dataframe

        if isinstance(columns, str):
            raise QueryError("columns is a list of field names, not text.")
        wanted = None if columns is None else list(columns)
        fetched = None if wanted is None else [before_index(name) for name in wanted]
        trees = self._find_trees(
            project_name, query, result_type, sort, limit=limit, projection=fetched
        )
        if wanted is None:
            trees = map(self._verified, trees)
        return load_dataframe(trees, wanted, VerifiedLoader(self.db_service.get_blob))

    def _verified(self, tree: dict[str, Any]) -> dict[str, Any]:
        if tree.get("format") == 1:
            self._decode(tree, lazy=True)
        verify_document(tree)
        return tree

    def projects(self) -> list[str]:
        """Return the names of the projects that have results, sorted."""
        return self.db_service.collections()


def with_type(query: dict[str, Any], result_type: ResultType | None) -> dict[str, Any]:
    """Return a prepared query for one document type only, unless that is None."""
    if result_type is None:
        return query
    name = result_type if isinstance(result_type, str) else result_type.result_type
    clause = {"result_type": {"$eq": name}}
    return {"$and": [clause, query]} if query else clause
