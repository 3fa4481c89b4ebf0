"""The life of a deployment: live or not, retired, named and tagged, and its history."""

from __future__ import annotations

from collections.abc import Mapping

from prefect_lume.errors import ConflictError
from prefect_lume.registry import chronicle, fields, repository
from prefect_lume.registry.changes import labels, live
from prefect_lume.registry.changes.deployments import locked
from prefect_lume.registry.ledger import Transaction
from prefect_lume.registry.records import DeploymentRecord, RegistryEvent
from prefect_lume.registry.service.base import ServiceBase


class LifeCalls(ServiceBase):
    """The calls of the service that are about what changes in a deployment's life."""

    def promote(self, deployment_id: int, *, reason: str = "") -> RegistryEvent | None:
        """Make a deployment the live one of its model.

        In the same transaction the one before stops to be live, and the model's flows
        that this deployment offers (by its ``entrypoints``) point at it from now on.

        Args:
            deployment_id: The deployment.
            reason: Why, for the history.

        Returns:
            The event, or ``None`` if it was live already.

        Raises:
            NotFoundError: There is no such deployment.
            ConflictError: It is retired.
        """
        number = fields.integer("deployment_id", deployment_id)
        return self._event(lambda tx: live.promote(tx, locked(tx, number)), reason)

    def set_live(self, deployment_id: int) -> None:
        """Make a deployment the live one of its model, as :meth:`promote` does.

        Raises:
            NotFoundError: There is no such deployment.
            ConflictError: It is retired.
        """
        self.promote(deployment_id)

    def demote(self, model_id: int, *, reason: str = "") -> RegistryEvent | None:
        """Let no deployment of a model be live.

        The flows go on pointing at the deployment that served them last.

        Args:
            model_id: The model.
            reason: Why, for the history.

        Returns:
            The event, or ``None`` if none was live.

        Raises:
            NotFoundError: There is no such model.
        """
        number = fields.integer("model_id", model_id)
        return self._event(lambda tx: live.demote(tx, number), reason)

    def rollback(self, model_id: int, *, reason: str = "") -> RegistryEvent:
        """Make that deployment live again which was live before the present one.

        Rolling back once more goes further back. Deployments that were retired or
        deleted since are passed over. After a demotion, what was live comes back.

        Args:
            model_id: The model.
            reason: Why, for the history.

        Returns:
            The event.

        Raises:
            NotFoundError: There is no such model.
            ConflictError: No earlier deployment was live that may be so again.
        """
        number = fields.integer("model_id", model_id)

        def work(tx: Transaction) -> None:
            tx.lock_model(number)
            target = live.usable(tx, number, live.predecessors(tx, number))
            if target is None:
                raise ConflictError(
                    f"There is nothing to roll model {number} back to: no earlier "
                    f"deployment was live that is still there and not retired. Make "
                    f"one live by its number: promote(deployment_id)."
                )
            live.promote(tx, locked(tx, target), kind="deployment.rolled-back")

        event = self._event(work, reason)
        assert event is not None, "a roll-back makes live what is not"
        return event

    def retire_deployment(
        self, deployment_id: int, *, reason: str = ""
    ) -> RegistryEvent | None:
        """Take a deployment out of use: it can no more become live or have aliases.

        Args:
            deployment_id: The deployment.
            reason: Why, for the history.

        Returns:
            The event, or ``None`` if it was retired already.

        Raises:
            NotFoundError: There is no such deployment.
            ConflictError: It is live, or has an alias.
        """
        number = fields.integer("deployment_id", deployment_id)
        return self._event(lambda tx: live.retire(tx, locked(tx, number)), reason)

    def restore_deployment(
        self, deployment_id: int, *, reason: str = ""
    ) -> RegistryEvent | None:
        """Take a retired deployment back into use. It does not become live by that.

        Args:
            deployment_id: The deployment.
            reason: Why, for the history.

        Returns:
            The event, or ``None`` if it was in use.

        Raises:
            NotFoundError: There is no such deployment.
        """
        number = fields.integer("deployment_id", deployment_id)
        return self._event(lambda tx: live.restore(tx, locked(tx, number)), reason)

    def set_alias(
        self, model_id: int, alias: str, deployment_id: int, *, reason: str = ""
    ) -> RegistryEvent | None:
        """Let an alias of a model point at one of its deployments.

        An alias is a name such as ``candidate`` or ``2026-beamtime``, unique in its
        model; setting it again moves it.

        Args:
            model_id: The model.
            alias: 1 to 255 letters, digits, ``_``, ``-`` and ``.``; not a mere number,
                and not ``live`` or ``latest``, which every model has.
            deployment_id: A deployment of that model.
            reason: Why, for the history.

        Returns:
            The event, or ``None`` if it pointed there already.

        Raises:
            NotFoundError: There is no such model, or it has no such deployment.
            ConflictError: The deployment is retired.
        """
        model = fields.integer("model_id", model_id)
        name = fields.alias(alias)
        number = fields.integer("deployment_id", deployment_id)
        return self._event(lambda tx: labels.set_alias(tx, model, name, number), reason)

    def remove_alias(
        self, model_id: int, alias: str, *, reason: str = ""
    ) -> RegistryEvent | None:
        """Remove an alias. The deployment that it pointed at stays as it is.

        Returns:
            The event.

        Raises:
            NotFoundError: There is no such model or alias.
        """
        model = fields.integer("model_id", model_id)
        name = fields.text("alias", alias)
        return self._event(lambda tx: labels.remove_alias(tx, model, name), reason)

    def get_deployment_by_alias(self, model_id: int, alias: str) -> DeploymentRecord:
        """Return the deployment of a model that an alias points at.

        Args:
            model_id: The model.
            alias: An alias that was set, or ``"live"`` or ``"latest"``.

        Raises:
            NotFoundError: There is no such model or alias.
        """
        model = fields.integer("model_id", model_id)
        name = fields.text("alias", alias)
        if name == "live":
            return self._read(lambda c: repository.live_deployment(c, model))
        if name == "latest":
            return self._read(lambda c: repository.latest_deployment(c, model))
        return self._read(lambda c: repository.deployment_by_alias(c, model, name))

    def tag_deployment(
        self, deployment_id: int, tags: Mapping[str, str | None], *, reason: str = ""
    ) -> RegistryEvent | None:
        """Set tags of a deployment; others stay.

        Args:
            deployment_id: The deployment.
            tags: Key → value; ``None`` removes a tag. Keys have 1 to 255 characters,
                values up to 5,000.
            reason: Why, for the history.

        Returns:
            The event, or ``None`` if everything was so already.

        Raises:
            NotFoundError: There is no such deployment.
        """
        number = fields.integer("deployment_id", deployment_id)
        checked = fields.tags(tags, removal=True)

        def work(tx: Transaction) -> None:
            row = locked(tx, number)
            labels.set_tags(tx, labels.DEPLOYMENT, row.model_id, number, checked)

        return self._event(work, reason)

    def get_history(
        self,
        *,
        model_id: int | None = None,
        deployment_id: int | None = None,
        project_name: str | None = None,
        flow_id: str | None = None,
        kind: str | None = None,
        limit: int | None = None,
    ) -> tuple[RegistryEvent, ...]:
        """Return what was changed, by whom, when and why; the newest first.

        Args:
            model_id: Only events of this model; also of one that was deleted.
            deployment_id: Only events about this deployment, those by which another
                one took "live" or an alias from it included.
            project_name: Only events of this project, under whatever name.
            flow_id: Only events about this flow.
            kind: Only events of this kind, for example ``"project.renamed"``.
            limit: So many at most. Left out: all.

        Returns:
            The events. Without arguments those of the whole registry.

        Raises:
            NotFoundError: There is no such project.
        """
        model = fields.optional_integer("model_id", model_id)
        number = fields.optional_integer("deployment_id", deployment_id)
        project = fields.optional_text("project_name", project_name)
        flow = fields.optional_text("flow_id", flow_id, fields.FLOW_ID_LENGTH)
        what = fields.optional_text("kind", kind)
        most = fields.optional_integer("limit", limit)
        return self._read(
            lambda c: chronicle.history(
                c,
                model_id=model,
                deployment_id=number,
                project_name=project,
                flow_id=flow,
                kind=what,
                limit=most,
            )
        )

    def get_live_events(self) -> dict[int, RegistryEvent]:
        """Return, by ``model_id``, the event by which its live deployment became so.

        It says since when a deployment is live, by whom, and why. Models whose live
        one was so before there was a history are not in it.
        """
        return self._read(chronicle.live_events)
