"""The Block that holds a MongoDB server's credentials."""

from typing import Any, ClassVar, Literal
from urllib.parse import quote_plus

from prefect.blocks.abstract import CredentialsBlock
from pydantic import Field, SecretStr
from pymongo import MongoClient
from pymongo.database import Database

from prefect_lume.credentials._common import (
    LOGO_URL,
    Authority,
    Host,
    Password,
    Username,
    documentation_url,
)
from prefect_lume.errors import ConfigurationError, ConnectionFailedError, TLSError
from prefect_lume.storage import mongo

Mechanism = Literal[
    "",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "MONGODB-X509",
    "PLAIN",
    "GSSAPI",
    "MONGODB-AWS",
]


class MongoDBCredentials(CredentialsBlock):
    """Holds the address and login of a MongoDB server, for the results database.

    Any server that speaks MongoDB's protocol will do.

    Give host and port, or a URI: `mongodb://` with one or more hosts, or
    `mongodb+srv://`. Replica sets are named in the URI or in their own field. User name
    and password may hold any character.

    Example:
        Load stored credentials and count the documents of a collection:
        ```python
        from prefect_lume import MongoDBCredentials

        credentials = MongoDBCredentials.load("BLOCK_NAME")
        print(credentials.test_connection())
        print(credentials.get_database()["injector"].estimated_document_count())
        ```
    """

    _block_type_name: ClassVar[str] = "MongoDB Credentials"
    _block_type_slug: ClassVar[str] = "mongodb-credentials"
    _logo_url: ClassVar[str] = LOGO_URL  # type: ignore[assignment]  # Prefect: HttpUrl
    _documentation_url: ClassVar[str] = documentation_url(  # type: ignore[assignment]
        "MongoDBCredentials"
    )

    host: Host = "localhost"
    port: int = Field(
        default=27017, ge=1, le=65535, title="Port", description="Port of the server."
    )
    uri: SecretStr = Field(
        default=SecretStr(""),
        title="URI",
        description=(
            "Address as `mongodb://...` or `mongodb+srv://...`, in place of host and "
            "port."
        ),
    )
    username: Username = ""
    password: Password = SecretStr("")
    database: str = Field(
        default="",
        title="Database",
        description="Name of the database; empty means the URI's own, else `lume`.",
    )
    auth_mechanism: Mechanism = Field(
        default="",
        title="Authentication mechanism",
        description="How to log in; empty means that server and driver agree on it.",
    )
    auth_source: str = Field(
        default="",
        title="Authentication source",
        description="Database that knows the user; empty means the driver's default.",
    )
    replica_set: str = Field(
        default="",
        title="Replica set",
        description="Name of the replica set; empty for a single server.",
    )
    tls: bool = Field(
        default=False, title="TLS", description="Whether the connection is encrypted."
    )
    tls_ca: Authority = ""
    tls_certificate_key: str = Field(
        default="",
        title="TLS: client certificate and key",
        description="Path of the client's certificate and private key in one PEM file.",
    )
    timeout: float = Field(
        default=10.0,
        gt=0,
        le=600,
        title="Timeout",
        description="Seconds to wait for a server that can be used.",
    )

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "serverSelectionTimeoutMS": round(self.timeout * 1000),
            "connectTimeoutMS": round(self.timeout * 1000),
        }
        named = {
            "username": self.username,
            "password": self.password.get_secret_value(),
            "authMechanism": self.auth_mechanism,
            "authSource": self.auth_source,
            "replicaSet": self.replica_set,
            "tlsCAFile": self.tls_ca,
            "tlsCertificateKeyFile": self.tls_certificate_key,
        }
        options.update({key: value for key, value in named.items() if value})
        if self.tls or self.tls_ca or self.tls_certificate_key:
            options["tls"] = True
        if self.password.get_secret_value() and not self.username:
            raise ConfigurationError(
                "The MongoDBCredentials Block has a password without a user name: "
                "fill in 'username', or give both in 'uri'."
            )
        return options

    def _address(self) -> str:
        if uri := self.uri.get_secret_value().strip():
            return uri
        host = f"[{self.host}]" if ":" in self.host else quote_plus(self.host)
        return f"mongodb://{host}:{self.port}/"

    def get_client(self, *_: Any, **__: Any) -> MongoClient[dict[str, Any]]:
        """Return the server's client: pooled, thread-safe, one per process.

        Raises:
            ConfigurationError: The fields do not fit together, or cannot be read.
            ConnectionFailedError: `mongodb+srv` found no server in the DNS.
        """
        return mongo.get_client(self._address(), **self._options())

    @property
    def database_name(self) -> str:
        """The database that is used: the field, else the URI's own, else ``lume``."""
        return self.database or mongo.database_of(self._address()) or "lume"

    def get_database(self) -> Database[dict[str, Any]]:
        """Return the database of :attr:`database_name`."""
        return self.get_client()[self.database_name]

    def test_connection(self) -> str:
        """Connect once and say in one line how it went.

        Returns:
            The server's address and version.

        Raises:
            StorageError: One line that says what is wrong (unknown host, refused, bad
                password, TLS, permission) and what to do.
            ConfigurationError: The Block's fields do not fit together.
        """
        client = self.get_client()
        try:
            version = mongo.check(client, self.database_name)
        except ConnectionFailedError as error:
            if client.options.pool_options._ssl_context and "no answer" in str(error):
                # A server without TLS just waits, as one that is not there would.
                raise TLSError(
                    f"{error} TLS is on: does the server speak it?", error.where
                ) from error
            raise
        where = mongo.describe(client, self.database_name)
        return f"{where}: connected, MongoDB protocol {version}"
