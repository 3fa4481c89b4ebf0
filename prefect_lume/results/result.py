"""Result documents: what went into, and came out of, one run of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from prefect_lume.errors import (
    EncodingError,
    IntegrityError,
    InvalidInputError,
    clip,
    name_list,
    suggestion,
)
from prefect_lume.results.codecs.encoder import Encoder
from prefect_lume.results.codecs.keys import MARK, escape_key
from prefect_lume.results.codecs.times import utc_text
from prefect_lume.results.hashing import hash_trees
from prefect_lume.results.index import Index
from prefect_lume.results.references import FileReference, ResultReference

#: The stored document's own keys, which no field may have.
RESERVED: Final = frozenset(
    {"_id", "_checksum", "format", "result_type", "unique_hash"}
)
#: The validation context in which unknown fields are kept.
LOADING: Final = "prefect_lume.loading"


class DocumentBase(BaseModel, ABC):
    """What every document representation offers, however it is stored.

    Attributes:
        result_type: The name that stored documents of this class carry. Unless a
            class sets it, it is the class's own name.
        indices: The indices that the store creates for this type.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, validate_by_name=True)

    result_type: ClassVar[str] = ""
    indices: ClassVar[tuple[Index, ...]] = ()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if "result_type" not in cls.__dict__:
            cls.result_type = cls.__name__
        taken = RESERVED & set(cls.model_fields)
        if taken:
            raise InvalidInputError(
                f"The document type {cls.__name__!r} may not have the fields "
                f"{name_list(taken)}: stored documents use them. Name them otherwise."
            )

    @abstractmethod
    def get_pk_id(self) -> str:
        """Return the key under which the document is stored."""

    @staticmethod
    @abstractmethod
    def get_validation_error() -> type[Exception]:
        """Return the type of the exception that a wrong document raises."""


def _milliseconds(moment: datetime) -> datetime:
    moment = moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _now() -> datetime:
    return datetime.now(UTC)


class Result(DocumentBase):
    """What went into, and came out of, one run of a model.

    A result is not changed once it is made; ``model_copy(update=...)`` makes another.

    Attributes:
        project_name: The project whose collection holds the result.
        flow_id: Prefect's id of the flow.
        flow_run_id: Prefect's id of the flow run.
        deployment_id: The registry's id of the deployment that made it.
        inputs: What went in, by name.
        outputs: What came out, by name.
        date_modified: When it was made: UTC, in whole milliseconds.
        unique_on: Dotted paths of what makes the result unique. Two results of one
            type and project that agree in all of it are the same result. A key that
            holds a dot is written as it is stored: ``outputs.a%2Eb``.

    Example:
        >>> result = Result(project_name="demo", outputs={"sigma": 1.5})
        >>> result.reference().result_type
        'Generic'
    """

    model_config = ConfigDict(extra="allow", frozen=True, validate_default=True)

    result_type: ClassVar[str] = "Generic"
    indices: ClassVar[tuple[Index, ...]] = (
        Index(("flow_id",)),
        Index(("flow_run_id",)),
        Index(("deployment_id",)),
        Index(("date_modified",)),
    )

    project_name: str = Field(min_length=1)
    flow_id: str | None = None
    flow_run_id: str | None = None
    deployment_id: int | None = None
    inputs: dict[str, Any] = Field(default_factory=dict)
    outputs: dict[str, Any] = Field(default_factory=dict)
    date_modified: Annotated[AwareDatetime, AfterValidator(_milliseconds)] = Field(
        default_factory=_now
    )
    unique_on: tuple[str, ...] = ("flow_id", "flow_run_id", "inputs", "outputs")

    _hash: str | None = PrivateAttr(default=None)
    _type_name: str | None = PrivateAttr(default=None)

    @model_validator(mode="before")
    @classmethod
    def _known_fields(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, Mapping) and info.context != LOADING:
            known = set(cls.model_fields)
            known |= {field.alias for field in cls.model_fields.values() if field.alias}
            for name in data:
                if name not in known:
                    raise ValueError(
                        f"{cls.__name__} has no field {name!r}."
                        f"{suggestion(str(name), known)} Put values of your own into "
                        "inputs or outputs, or declare the field in a subclass."
                    )
        return data

    @field_validator("unique_on")
    @classmethod
    def _paths(cls, paths: tuple[str, ...]) -> tuple[str, ...]:
        if not paths or not all(all(path.split(".")) for path in paths):
            raise ValueError(
                "unique_on needs at least one dotted path, for example 'inputs.charge'"
            )
        return tuple(dict.fromkeys(paths))

    @property
    def type_name(self) -> str:
        """The document type's name, also when no class for it is known here."""
        private = self.__pydantic_private__ or {}
        return private.get("_type_name") or type(self).result_type

    @property
    def unique_hash(self) -> str:
        """The result's key: a SHA-256 over its type, its project and ``unique_on``.

        It is computed once. A loaded result has the stored one; :meth:`verify`
        compares it with the content.

        Raises:
            EncodingError: Something in the result cannot be stored.
            InvalidInputError: ``unique_on`` names something that the result lacks.
        """
        # Where pydantic keeps it: its own way there takes much longer.
        private = self.__pydantic_private__ or {}
        known: str | None = private.get("_hash")
        if known is None:
            known = self.compute_hash()
            self._hash = known
        return known

    def compute_hash(self) -> str:
        """Return the hash of what the result holds now."""
        roots = {path.partition(".")[0] for path in self.unique_on}
        return self.hash_of(self.field_trees(Encoder(0, hashing=True), roots))

    def hash_of(
        self, trees: Mapping[str, Any], texts: Mapping[str, str] | None = None
    ) -> str:
        """Return the hash for fields that are encoded already.

        Args:
            trees: The fields' trees.
            texts: The same as ASCII JSON, if that was written already.
        """
        parts = {
            path: trees[path] if path in trees else self._part(trees, path)
            for path in self.unique_on
        }
        parts["result_type"] = self.type_name
        parts["project_name"] = self.project_name
        return hash_trees(parts, texts)

    def field_values(self) -> dict[str, Any]:
        """Return all fields by name, those of an unknown type included."""
        own = self.__dict__
        values = {name: own[name] for name in type(self).model_fields}
        extra = self.model_extra
        return {**values, **extra} if extra else values

    def field_trees(
        self, encoder: Encoder, names: set[str] | None = None
    ) -> dict[str, Any]:
        """Return the trees of the fields, or of some of them.

        Args:
            encoder: Collects the payloads that leave the trees.
            names: The fields that are wanted; ``None`` means all.
        """
        trees: dict[str, Any] = {}
        for name, value in self.field_values().items():
            if names is not None and name not in names:
                continue
            if name == "date_modified":
                trees[name] = utc_text(value)
            elif name == "unique_on":
                trees[name] = list(value)
            else:
                trees[escape_key(name)] = encoder.encode(value, (name,), 1)
        return trees

    def remember_hash(
        self, trees: Mapping[str, Any], texts: Mapping[str, str] | None = None
    ) -> str:
        """Return the hash of :meth:`hash_of`, and make it the result's own."""
        found = self.hash_of(trees, texts)
        self._hash = found
        return found

    def remember_stored(self, key: str, type_name: str) -> None:
        """Take over the stored key and type name, as loading does."""
        self._hash = key
        if type_name != type(self).result_type:
            self._type_name = type_name

    def verify(self) -> Self:
        """Check that the result's key is the hash of its content.

        Returns:
            The result itself.

        Raises:
            IntegrityError: It is not: the stored document was changed.
        """
        if self._hash is None:
            return self
        try:
            found = f"its content hashes to {self.compute_hash()}"
        except (EncodingError, InvalidInputError) as exc:
            raise self._changed(str(exc)) from exc
        if not found.endswith(self._hash):
            raise self._changed(found)
        return self

    def _changed(self, why: str) -> IntegrityError:
        return IntegrityError(
            f"The stored {self.type_name} result {self._hash} of project "
            f"{self.project_name!r} is not what its hash says: {clip(why)}."
        )

    def reference(
        self,
        attribute: str | None = None,
        attribute_index: list[str | int] | None = None,
    ) -> ResultReference:
        """Return the small JSON that finds this result, or a part of it, again."""
        return ResultReference(
            project_name=self.project_name,
            result_type=self.type_name,
            unique_hash=self.unique_hash,
            attribute=attribute,
            attribute_index=attribute_index,
        )

    def get_pk_id(self) -> str:
        """Return the key under which the document is stored: ``unique_hash``."""
        return self.unique_hash

    @staticmethod
    def get_validation_error() -> type[Exception]:
        """Return pydantic's ``ValidationError``."""
        return ValidationError

    def model_copy(
        self, *, update: Mapping[str, Any] | None = None, deep: bool = False
    ) -> Self:
        """Return a copy, with some fields replaced; its hash is its own."""
        copied = super().model_copy(update=update, deep=deep)
        if update:
            copied._hash = None
        return copied

    def _part(self, trees: Mapping[str, Any], path: str) -> Any:
        tree: Any = trees
        for step in path.split("."):
            if isinstance(tree, dict) and tree.get(MARK) == "tuple":
                tree = tree["items"]
            if isinstance(tree, list) and step.isdecimal() and int(step) < len(tree):
                tree = tree[int(step)]
            elif isinstance(tree, dict) and MARK not in tree and step in tree:
                tree = tree[step]
            else:
                raise InvalidInputError(
                    f"unique_on names {path!r}, but the {self.type_name} result of "
                    f"project {self.project_name!r} has no {step!r} there. Name what "
                    "every such result has."
                )
        return tree

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Result):
            return NotImplemented
        if self is other:
            return True
        return self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self.unique_hash)

    def _content(self) -> str:
        trees = self.field_trees(Encoder(0, hashing=True))
        del trees["date_modified"]
        return hash_trees({**trees, "result_type": self.type_name})


class ImpactResult(Result):
    """A result of an Impact simulation, as LUME keeps it.

    Attributes:
        archive: The simulation's archive file.
        plot_file: A plot of the result.
        pv_collection_isotime: When the machine's process variables were read.
        config: The configuration of the run.
    """

    result_type: ClassVar[str] = "Impact"
    indices: ClassVar[tuple[Index, ...]] = (
        *Result.indices,
        Index(("pv_collection_isotime.utc",)),
    )

    archive: FileReference | None = None
    plot_file: FileReference | None = None
    pv_collection_isotime: datetime | None = None
    config: dict[str, Any] = Field(default_factory=dict)


#: The names that the LUME services gave to the two document types.
Generic = Result
Impact = ImpactResult
