"""The Block that holds an SQL database's credentials."""

from typing import Any, ClassVar, Literal

from prefect.blocks.abstract import CredentialsBlock
from pydantic import Field, SecretStr
from sqlalchemy import URL, Engine, exc

from prefect_lume.credentials._common import (
    LOGO_URL,
    Authority,
    Host,
    Password,
    Username,
    documentation_url,
)
from prefect_lume.errors import ConfigurationError
from prefect_lume.storage import sql

TLSMode = Literal["preferred", "disabled", "required", "verify-ca", "verify-identity"]

_POSTGRESQL_MODES = {
    "preferred": "prefer",
    "disabled": "disable",
    "required": "require",
    "verify-ca": "verify-ca",
    "verify-identity": "verify-full",
}


class MySQLCredentials(CredentialsBlock):
    """Holds the address and login of a MySQL or MariaDB database.

    It serves the model registry or the results. Any other SQLAlchemy driver is used by
    its name, PostgreSQL (`postgresql+psycopg`) for example.

    Passwords may hold any character. MySQL's `caching_sha2_password` works with and
    without TLS.

    Example:
        Load stored credentials and ask the database something:
        ```python
        from prefect_lume import MySQLCredentials
        from sqlalchemy import text

        credentials = MySQLCredentials.load("BLOCK_NAME")
        print(credentials.test_connection())
        with credentials.get_engine().connect() as connection:
            print(connection.execute(text("SELECT 1")).scalar_one())
        ```
    """

    _block_type_name: ClassVar[str] = "MySQL Credentials"
    _block_type_slug: ClassVar[str] = "mysql-credentials"
    _logo_url: ClassVar[str] = LOGO_URL  # type: ignore[assignment]  # Prefect: HttpUrl
    _documentation_url: ClassVar[str] = documentation_url(  # type: ignore[assignment]
        "MySQLCredentials"
    )

    host: Host = "localhost"
    port: int = Field(
        default=3306,
        ge=1,
        le=65535,
        title="Port",
        description="Port of the server; PostgreSQL's is 5432.",
    )
    username: Username = ""
    password: Password = SecretStr("")
    database: str = Field(
        default="lume",
        title="Database",
        description="Name of the database; for SQLite the path of its file.",
    )
    driver: str = Field(
        default="mysql+pymysql",
        title="Driver",
        description="SQLAlchemy's name of the driver.",
        examples=["mysql+pymysql", "postgresql+psycopg", "sqlite"],
    )
    tls_mode: TLSMode = Field(
        default="preferred",
        title="TLS",
        description=(
            "Whether the connection is encrypted: `preferred` (as the driver decides), "
            "`disabled`, `required` (any certificate), `verify-ca` (a certificate of "
            "the authority), `verify-identity` (for this host name, too)."
        ),
    )
    tls_ca: Authority = ""
    tls_certificate: str = Field(
        default="",
        title="TLS: client certificate",
        description="Path of the client's certificate (PEM).",
    )
    tls_key: str = Field(
        default="",
        title="TLS: client key",
        description="Path of the client's private key (PEM).",
    )
    connect_args: dict[str, Any] = Field(
        default_factory=dict,
        title="Driver arguments",
        description="Further arguments for the driver's connect call, as JSON.",
    )
    pool_size: int = Field(
        default=5,
        ge=1,
        le=200,
        title="Pool size",
        description="Connections that each process keeps open.",
    )

    def get_url(self) -> URL:
        """Return the SQLAlchemy URL. Its text form hides the password.

        Raises:
            ConfigurationError: The driver's name cannot be read.
        """
        if self.password.get_secret_value() and not self.username:
            raise ConfigurationError(
                "The MySQLCredentials Block has a password without a user name: fill "
                "in 'username'."
            )
        try:
            if self._is_sqlite:
                return URL.create(self.driver, database=self.database)
            return URL.create(
                self.driver,
                username=self.username or None,
                password=self.password.get_secret_value() or None,
                host=self.host,
                port=self.port,
                database=self.database or None,
            )
        except (exc.ArgumentError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"The MySQLCredentials Block cannot be used: {error}"
            ) from None

    @property
    def _is_sqlite(self) -> bool:
        return self.driver.partition("+")[0] == "sqlite"

    def get_engine(self) -> Engine:
        """Return the database's engine: pooled, pre-pinged, one per process.

        Raises:
            ConfigurationError: The driver is unknown, or has no TLS fields here.
            MissingDependencyError: The driver's package is not installed.
        """
        if self._is_sqlite:
            return sql.get_engine(self.get_url(), self.connect_args)
        arguments = {**self._tls_arguments(), **self.connect_args}
        return sql.get_engine(self.get_url(), arguments, pool_size=self.pool_size)

    def get_client(self, *_: Any, **__: Any) -> Engine:
        """Return :meth:`get_engine`, under the name that Prefect's Blocks share."""
        return self.get_engine()

    def _tls_arguments(self) -> dict[str, Any]:
        family, _, driver = self.driver.partition("+")
        files = [self.tls_ca, self.tls_certificate, self.tls_key]
        if self.tls_mode == "preferred" and not any(files):
            return {}
        if family in {"mysql", "mariadb"} and driver == "pymysql":
            return self._pymysql_tls()
        if family == "postgresql" and driver in {"psycopg", "psycopg2"}:
            arguments = {
                "sslmode": _POSTGRESQL_MODES[self.tls_mode],
                "sslrootcert": self.tls_ca,
                "sslcert": self.tls_certificate,
                "sslkey": self.tls_key,
            }
            return {key: value for key, value in arguments.items() if value}
        raise ConfigurationError(
            f"The TLS fields are understood for pymysql and psycopg only, not for "
            f"{self.driver!r}: leave them empty (TLS 'preferred') and give that "
            f"driver's own TLS arguments in 'connect_args'."
        )

    def _pymysql_tls(self) -> dict[str, Any]:
        if self.tls_mode == "disabled":
            return {"ssl_disabled": True}
        if self.tls_mode in {"verify-ca", "verify-identity"} and not self.tls_ca:
            raise ConfigurationError(
                f"TLS {self.tls_mode!r} needs 'tls_ca', the path of the authority's "
                f"certificate."
            )
        verify = self.tls_mode in {"verify-ca", "verify-identity"}
        arguments = {
            # An empty mapping would be read as "no TLS": name one option at least.
            "ca": self.tls_ca or None,
            "cert": self.tls_certificate or None,
            "key": self.tls_key or None,
            "verify_mode": "required" if verify else "none",
            "check_hostname": self.tls_mode == "verify-identity",
        }
        return {"ssl": {k: v for k, v in arguments.items() if v is not None}}

    def test_connection(self) -> str:
        """Connect once and say in one line how it went.

        Returns:
            The server's address and version.

        Raises:
            StorageError: One line that says what is wrong (unknown host, refused, bad
                password, missing database, TLS, permission) and what to do.
            ConfigurationError: The Block's fields do not fit together.
        """
        engine = self.get_engine()
        version = sql.check(engine)
        return f"{sql.safe_url(engine)}: connected, {engine.dialect.name} {version}"
