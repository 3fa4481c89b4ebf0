"""The Block that names the whole context: registry, results and files."""

from typing import ClassVar, Optional

from prefect.blocks.core import Block
from pydantic import Field

from prefect_lume.credentials._common import LOGO_URL, documentation_url
from prefect_lume.credentials.mongodb import MongoDBCredentials
from prefect_lume.credentials.mysql import MySQLCredentials


class LumeServices(Block):
    """Says where prefect-lume keeps the model registry, the results and the files.

    What is left empty is embedded: one SQLite file, and files beside it, in `lume`
    under Prefect's home. So an empty Block is a whole, working context.

    Every task of prefect-lume takes `services=`, this Block or its name. The setting
    `PREFECT_LUME_SERVICES` names the Block of calls that give none.

    Example:
        Load a stored context and look a model up:
        ```python
        from prefect_lume import LumeServices
        from prefect_lume.config import open_context

        services = LumeServices.load("BLOCK_NAME")
        with open_context(services) as context:
            for model in context.model_db_service().get_models():
                print(model.model_id, model.description)
        ```
    """

    _block_type_name: ClassVar[str] = "LUME Services"
    _block_type_slug: ClassVar[str] = "lume-services"
    _logo_url: ClassVar[str] = LOGO_URL  # type: ignore[assignment]  # Prefect: HttpUrl
    _documentation_url: ClassVar[str] = documentation_url(  # type: ignore[assignment]
        "LumeServices"
    )

    # Optional[...], not "... | None": the form that Prefect's UI shows as a Block menu.
    registry: Optional[MySQLCredentials] = Field(  # noqa: UP045
        default=None,
        title="Registry",
        description="Database of the model registry; empty means embedded.",
    )
    results_mongodb: Optional[MongoDBCredentials] = Field(  # noqa: UP045
        default=None,
        title="Results in MongoDB",
        description="MongoDB database of the results; empty means SQL or embedded.",
    )
    results_sql: Optional[MySQLCredentials] = Field(  # noqa: UP045
        default=None,
        title="Results in SQL",
        description="SQL database of the results; empty means MongoDB or embedded.",
    )
    file_storage: str = Field(
        default="",
        title="File storage",
        description=(
            "A Prefect filesystem Block as `type-slug/name`, for example "
            "`s3-bucket/results`; empty means a folder beside the embedded database."
        ),
    )
    home: str = Field(
        default="",
        title="Embedded folder",
        description=(
            "Folder of everything embedded; empty means `PREFECT_LUME_HOME`, else "
            "`lume` in Prefect's home."
        ),
    )
