"""The credentials Blocks against real servers: what works, and what each line says."""

import os
import ssl
import uuid

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url, text

from prefect_lume.credentials import MongoDBCredentials, MySQLCredentials
from prefect_lume.errors import (
    AuthenticationError,
    DatabaseMissingError,
    PermissionDeniedError,
    TLSError,
)
from prefect_lume.storage import mongo, sql

SQL = [
    pytest.param("mysql_url", marks=pytest.mark.service("mysql")),
    pytest.param("mariadb_url", marks=pytest.mark.service("mariadb")),
    pytest.param("postgresql_url", marks=pytest.mark.service("postgresql")),
]


def block_of(url, **changes):
    """The Block that a person would fill in for a server's URL."""
    parsed = make_url(url)
    fields = {
        "driver": parsed.drivername,
        "host": parsed.host,
        "port": parsed.port,
        "username": parsed.username,
        "password": SecretStr(parsed.password),
        "database": parsed.database,
    }
    return MySQLCredentials(**{**fields, **changes})


@pytest.fixture(params=SQL)
def url(request):
    """Each SQL server in turn, with a database of its own."""
    return request.getfixturevalue(request.param)


def test_connects_and_says_where(url):
    """The line names address, database and version, and no password."""
    line = block_of(url).test_connection()
    parsed = make_url(url)
    assert parsed.database in line
    assert "connected" in line
    assert parsed.password not in line


def test_wrong_password_is_told_apart(url):
    """A wrong password is an authentication error that shows none."""
    with pytest.raises(AuthenticationError, match="password") as caught:
        block_of(url, password=SecretStr("hunter2")).test_connection()
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_database_is_told_apart(url):
    """A database that is not there is named as that."""
    with pytest.raises(
        (DatabaseMissingError, PermissionDeniedError), match="no_such_database"
    ) as caught:
        block_of(url, database="no_such_database").test_connection()
    assert "\n" not in str(caught.value)


def test_connections_survive_being_killed(url):
    """A pooled connection that the server closed is replaced before it is used."""
    engine = block_of(url).get_engine()
    kill = {
        "mysql": ("SELECT connection_id()", "KILL {}"),
        "mariadb": ("SELECT connection_id()", "KILL {}"),
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
    }[engine.dialect.name]
    with engine.connect() as connection:
        identifier = connection.execute(text(kill[0])).scalar_one()
    other = sql.get_engine(url, {}, pool_size=1)
    with other.connect() as connection:
        connection.execute(text(kill[1].format(identifier)))
    with engine.connect() as connection:
        assert connection.execute(text(kill[0])).scalar_one() != identifier


def test_forked_child_has_a_connection_of_its_own(url):
    """A forked child talks to the server on its own, and the parent still can."""
    engine = block_of(url).get_engine()
    query = text("SELECT 1")
    with engine.connect() as connection:
        connection.execute(query)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with engine.connect() as connection:
                os.write(writing, str(connection.execute(query).scalar_one()).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reading, 10) == b"1"
    with engine.connect() as connection:
        assert connection.execute(query).scalar_one() == 1


@pytest.mark.parametrize("mode", ["preferred", "disabled", "required"])
@pytest.mark.parametrize("plugin", ["caching_sha2_password", "mysql_native_password"])
def test_mysql_passwords_of_any_character(request, mode, plugin):
    """A password beyond Latin-1 logs in, with and without TLS, on both servers."""
    server = "mysql" if plugin == "caching_sha2_password" else "mariadb"
    if server == "mariadb" and mode == "required":
        mode = "preferred"  # This MariaDB has no certificate.
    url = request.getfixturevalue(f"{server}_url")
    word = "p€ßw✓rd'\"\\;😀"
    name = f"lume_{uuid.uuid4().hex[:10]}"
    admin = block_of(url).get_engine()
    quoted = word.replace("\\", "\\\\").replace("'", "\\'").replace("%", "%%")
    with admin.begin() as connection:
        connection.exec_driver_sql(
            f"CREATE USER {name} IDENTIFIED WITH {plugin} BY '{quoted}'"
            if server == "mysql"
            else f"CREATE USER {name} IDENTIFIED BY '{quoted}'"
        )
        connection.exec_driver_sql(f"GRANT ALL ON {make_url(url).database}.* TO {name}")
    try:
        block = block_of(url, username=name, password=SecretStr(word), tls_mode=mode)
        assert "connected" in block.test_connection()
    finally:
        with admin.begin() as connection:
            connection.exec_driver_sql(f"DROP USER {name}")


@pytest.mark.service("mysql")
def test_mysql_encrypts_when_asked_to(mysql_url):
    """`required` encrypts, `disabled` does not; caching_sha2_password takes both."""
    ciphers = {}
    for mode in ("required", "disabled"):
        with block_of(mysql_url, tls_mode=mode).get_engine().connect() as connection:
            row = connection.execute(text("SHOW STATUS LIKE 'Ssl_cipher'")).one()
            user = connection.execute(text("SHOW CREATE USER CURRENT_USER()")).scalar()
        ciphers[mode] = row[1]
        assert "caching_sha2_password" in user
    assert ciphers["required"]
    assert not ciphers["disabled"]


@pytest.mark.service("mysql")
def test_certificate_of_another_authority_is_a_tls_error(mysql_url, tmp_path):
    """A server whose certificate the authority did not sign is refused as TLS."""
    authority = tmp_path / "ca.pem"
    context = ssl.create_default_context()
    der = context.get_ca_certs(binary_form=True)
    if der:
        authority.write_text(ssl.DER_cert_to_PEM_cert(der[0]))
    else:
        authority.write_text("no certificate at all")
    block = block_of(mysql_url, tls_mode="verify-ca", tls_ca=str(authority))
    with pytest.raises(TLSError, match="TLS fields") as caught:
        block.test_connection()
    assert make_url(mysql_url).password not in str(caught.value)


@pytest.fixture
def mongodb(mongodb_url):
    """The Block that a person would fill in for the MongoDB-wire server."""
    return MongoDBCredentials(uri=SecretStr(mongodb_url), timeout=60)


@pytest.mark.service("mongodb")
def test_mongodb_connects_and_says_where(mongodb, mongodb_url):
    """The line names address and database, and no password."""
    line = mongodb.test_connection()
    assert mongodb.database_name in line
    assert "connected" in line
    assert "@" not in line


@pytest.mark.service("mongodb")
def test_mongodb_fields_instead_of_a_uri(mongodb_url):
    """Host, port, user and a password of odd characters as fields work like a URI."""
    from urllib.parse import unquote, urlsplit

    parts = urlsplit(mongodb_url)
    fields = MongoDBCredentials(
        host=parts.hostname,
        port=parts.port,
        username=unquote(parts.username),
        password=SecretStr(unquote(parts.password)),
        auth_source="admin",
    )
    assert "connected" in fields.test_connection()


@pytest.mark.service("mongodb")
def test_mongodb_wrong_password_is_told_apart(mongodb_url):
    """A wrong password is an authentication error that shows none."""
    from urllib.parse import urlsplit

    parts = urlsplit(mongodb_url)
    block = MongoDBCredentials(
        host=parts.hostname,
        port=parts.port,
        username="lume",
        password=SecretStr("hunter2"),
        auth_source="admin",
    )
    with pytest.raises(AuthenticationError) as caught:
        block.test_connection()
    assert "hunter2" not in str(caught.value)


@pytest.mark.service("mongodb")
def test_mongodb_tls_against_a_plain_server_is_a_tls_error(mongodb_url):
    """Asking a server for TLS that speaks none says that TLS is what failed."""
    from urllib.parse import urlsplit

    parts = urlsplit(mongodb_url)
    block = MongoDBCredentials(
        host=parts.hostname, port=parts.port, tls=True, timeout=5
    )
    with pytest.raises(TLSError, match="TLS"):
        block.test_connection()


@pytest.mark.service("mongodb")
def test_mongodb_client_is_new_after_a_fork(mongodb):
    """A forked child gets a client of its own."""
    before = mongodb.get_client()
    mongodb.test_connection()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            fresh = mongodb.get_client() is not before
            line = mongodb.test_connection()
            os.write(writing, f"{fresh} {'connected' in line}".encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert os.read(reading, 20) == b"True True"
    assert mongodb.get_client() is before
    assert mongo.check(before, mongodb.database_name)
