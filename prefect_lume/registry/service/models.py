"""Models: stored, found, tagged, removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_lume.registry import fields, repository
from prefect_lume.registry.changes import labels
from prefect_lume.registry.changes import models as changes
from prefect_lume.registry.records import ModelRecord, RegistryEvent
from prefect_lume.registry.service.base import ServiceBase


class ModelCalls(ServiceBase):
    """The calls of the service that are about models."""

    def store_model(
        self,
        *,
        author: str,
        laboratory: str,
        facility: str,
        beampath: str,
        description: str,
        reason: str = "",
    ) -> int:
        """Store a model, or find the one with the same five fields.

        Args:
            author: Who made it; like the others, 1 to 255 characters.
            laboratory: For example ``slac``.
            facility: For example ``lcls``.
            beampath: For example ``cu_hxr``.
            description: What it is.
            reason: Why, for the history.

        Returns:
            Its ``model_id``.
        """
        values = {
            "author": author,
            "laboratory": laboratory,
            "facility": facility,
            "beampath": beampath,
            "description": description,
        }
        checked = {name: fields.text(name, value) for name, value in values.items()}
        return self._change(lambda tx: changes.store_model(tx, checked), reason)

    def get_model(self, **criteria: Any) -> ModelRecord:
        """Return the one model that fits.

        Args:
            **criteria: Columns and their values: ``model_id``, ``author``,
                ``laboratory``, ``facility``, ``beampath``, ``description``,
                ``created``. Values are compared exactly.

        Raises:
            NotFoundError: There is none.
            AmbiguousError: There are several.
        """
        return self._read(lambda c: repository.find_model(c, criteria))

    def get_models(self, **criteria: Any) -> list[ModelRecord]:
        """Return all models that fit (see :meth:`get_model`), oldest first."""
        return self._read(lambda c: repository.find_models(c, criteria))

    def delete_model(
        self, model_id: int, force: bool = False, *, reason: str = ""
    ) -> None:
        """Remove a model with its deployments and the flows that point at them.

        Args:
            model_id: The model.
            force: Whether to do so also while one of the deployments is live.
            reason: Why, for the history, which stays.

        Raises:
            NotFoundError: There is no such model.
            ConflictError: A deployment is live, or a flow takes part in a
                flow-of-flows (``force`` does not help against that).
        """
        number = fields.integer("model_id", model_id)
        self._change(lambda tx: changes.delete_model(tx, number, force), reason)

    def tag_model(
        self, model_id: int, tags: Mapping[str, str | None], *, reason: str = ""
    ) -> RegistryEvent | None:
        """Set tags of a model; others stay.

        Args:
            model_id: The model.
            tags: Key → value; ``None`` removes a tag. Keys have 1 to 255 characters,
                values up to 5,000.
            reason: Why, for the history.

        Returns:
            The event, or ``None`` if everything was so already.

        Raises:
            NotFoundError: There is no such model.
        """
        number = fields.integer("model_id", model_id)
        checked = fields.tags(tags, removal=True)
        return self._event(
            lambda tx: labels.set_model_tags(tx, number, checked), reason
        )
