"""The one door to stored results."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Literal

from prefect_lume.errors import (
    ConflictError,
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    QueryError,
    clip,
)
from prefect_lume.results import query as language
from prefect_lume.results.documents import DocumentBase, Result, to_document
from prefect_lume.results.finder import Query, ResultsFinder, ResultType, with_type
from prefect_lume.results.narrow import narrow
from prefect_lume.results.references import ResultReference
from prefect_lume.results.stores.base import DBService

OnDuplicate = Literal["return", "raise", "replace"]


class ResultsService(ResultsFinder):
    """Stores result documents in a results database, and finds them again.

    Example:
        >>> from prefect_lume.results.stores import SQLDBService
        >>> from prefect_lume.storage.sql import get_engine
        >>> store = SQLDBService(get_engine("sqlite://"))
        >>> store.create_tables()
        >>> service = ResultsService(store)
        >>> result = Result(project_name="demo", inputs={"k": 2}, outputs={"s": 1.5})
        >>> reference = service.store(result)
        >>> service.load(reference).outputs
        {'s': 1.5}
        >>> [r.inputs["k"] for r in service.find("demo", {"inputs.k": {"$gt": 1}})]
        [2]
    """

    def __init__(
        self,
        db_service: DBService,
        model_docs: object = None,
        *,
        blob_threshold: int | None = None,
    ) -> None:
        """Keep a results database; nothing is connected yet.

        Args:
            db_service: The results database.
            model_docs: Document types beside the registered ones: a mapping of names
                to classes, a subclass of ``ModelDocs``, or an enum of classes.
            blob_threshold: Bytes past which a value leaves its document. None takes
                the database's own.
        """
        super().__init__(db_service, model_docs)
        own = db_service.config.threshold
        self._threshold = own if blob_threshold is None else blob_threshold
        self._prepared: set[type[DocumentBase]] = set()
        self._lock = threading.Lock()

    def store(
        self, result: Result, on_duplicate: OnDuplicate = "return"
    ) -> ResultReference:
        """Store a result. Doing it twice is doing it once, unless you say otherwise.

        Large values are written before the document that refers to them: whoever can
        see the result can load all of it, and a failure leaves nothing to be seen.

        Args:
            result: What is stored; its ``project_name`` names the collection.
            on_duplicate: What to do when a result of the same ``unique_hash`` is
                there: ``"return"`` the reference to it and change nothing,
                ``"raise"``, or ``"replace"`` it.

        Returns:
            The reference that finds the result again.

        Raises:
            ConflictError: It is there and ``on_duplicate`` is ``"raise"``, or it
                violates a unique index of its type.
            EncodingError: It holds a value that cannot be stored. Nothing was written.
            InvalidInputError: ``on_duplicate`` or the project's name is not allowed.
        """
        if on_duplicate not in {"return", "raise", "replace"}:
            raise InvalidInputError(
                f"on_duplicate is 'return', 'raise' or 'replace', not "
                f"{clip(repr(on_duplicate), 60)}."
            )
        encoded = to_document(result, self._threshold)
        self._prepare(type(result))
        project = result.project_name
        if on_duplicate == "replace":
            self.db_service.replace(project, encoded)
        elif not self.db_service.insert(project, encoded) and on_duplicate == "raise":
            raise ConflictError(
                f"The project {project!r} has a {result.type_name} result with the "
                f"same {', '.join(result.unique_on)} already: {result.unique_hash}. "
                f"Pass on_duplicate='return' to use it or 'replace' to replace it."
            )
        return result.reference()

    def _prepare(self, document: type[DocumentBase]) -> None:
        known = set(self.model_docs.values()) | {document}
        with self._lock:
            new = known - self._prepared
        if new:
            self.db_service.prepare(new)
            with self._lock:
                self._prepared |= new

    def load(
        self,
        reference: ResultReference | Mapping[str, Any],
        *,
        lazy: bool = False,
        verify: bool = True,
    ) -> Any:
        """Return the whole result that a reference names.

        Args:
            reference: A reference, or its JSON form.
            lazy: Leave large values in the database until they are asked for.
            verify: Check that the content has the hash it is stored under. Values
                that left the document are verified in any case. Lazy loading does not
                check the whole.

        Returns:
            The document, of the class that is registered for its type.

        Raises:
            NotFoundError: There is no such result.
            IntegrityError: What is stored is not what was stored once.
        """
        wanted = _reference(reference)
        tree = self._get(wanted)
        result = self._decode(tree, lazy=lazy)
        if verify and not lazy and isinstance(result, Result):
            result.verify()
        return result

    def load_value(self, reference: ResultReference | Mapping[str, Any]) -> Any:
        """Return the value that a reference is narrowed to, or the whole result.

        Args:
            reference: A reference; ``attribute`` names a field of the document and
                ``attribute_index`` the keys and positions that lead on from it.

        Raises:
            NotFoundError: There is no such result, or no such value in it: the message
                names what is there instead.
            IntegrityError: What is stored is not what was stored once.
        """
        wanted = _reference(reference)
        if wanted.attribute is None and not wanted.attribute_index:
            return self.load(wanted)
        return narrow(self.load(wanted, lazy=True), wanted)

    def _get(self, reference: ResultReference) -> dict[str, Any]:
        try:
            tree = self.db_service.get(reference.project_name, reference.unique_hash)
        except NotFoundError:
            self._require_project(reference.project_name)
            raise NotFoundError(
                f"{reference.result_type} result in the project "
                f"{reference.project_name!r} with the unique hash",
                reference.unique_hash,
            ) from None
        if tree.get("_id") != reference.unique_hash:
            raise IntegrityError(
                f"The results database returned another document than "
                f"{reference.unique_hash}.",
                self.db_service.where,
            )
        return tree

    def delete(
        self,
        project_name: str,
        query: Query,
        *,
        result_type: ResultType | None = None,
    ) -> int:
        """Remove the results that match a query, and return how many they were.

        Args:
            project_name: The project.
            query: As in :meth:`find`. ``{}`` removes all of the project's results;
                None is refused, so that nothing is removed by oversight.
            result_type: Only results of this type.

        Raises:
            QueryError: The query is None or outside the language.
        """
        if query is None:
            raise QueryError("delete() needs a query; {} stands for every result.")
        prepared = with_type(language.prepare(query), result_type)
        return self.db_service.delete(project_name, prepared)

    def close(self) -> None:
        """Release what the results database holds open."""
        self.db_service.close()


def _reference(reference: ResultReference | Mapping[str, Any]) -> ResultReference:
    if isinstance(reference, ResultReference):
        return reference
    try:
        return ResultReference.model_validate(reference)
    except ValueError as error:
        raise InvalidInputError(
            f"This is no reference to a result: {clip(repr(reference), 120)}. "
            f"{clip(error)}"
        ) from error
