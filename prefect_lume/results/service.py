"""The one door to stored results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_lume.errors import (
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    clip,
)
from prefect_lume.results.narrow import narrow
from prefect_lume.results.references import ResultReference
from prefect_lume.results.writer import ResultsWriter


class ResultsService(ResultsWriter):
    """Stores result documents in a results database, and finds them again.

    Example:
        >>> from prefect_lume.results import Result
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
            verify: Check that the document was not changed in the database. Values
                that left it are verified in any case, lazy ones when they are loaded.

        Returns:
            The document, of the class that is registered for its type.

        Raises:
            NotFoundError: There is no such result.
            IntegrityError: What is stored is not what was stored once.
        """
        wanted = _reference(reference)
        return self._decode(self._get(wanted), lazy=lazy, verify=verify)

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
