"""The SQL credentials Block without a server."""

import pickle

import pytest
from pydantic import SecretStr, ValidationError

from prefect_lume.credentials import MySQLCredentials
from prefect_lume.errors import ConfigurationError, ConnectionFailedError

ODD = "p@ss/w:rd%#é ' \" \\ ; ? &"


def test_default_driver_is_pymysql():
    """An empty Block means MySQL through pymysql."""
    assert MySQLCredentials().get_url().drivername == "mysql+pymysql"


def test_password_of_any_character_reaches_the_driver():
    """The URL holds the very password, however odd its characters."""
    credentials = MySQLCredentials(username="u@x", password=SecretStr(ODD))
    assert credentials.get_url().password == ODD
    assert credentials.get_url().username == "u@x"
    assert credentials.get_engine().url.password == ODD


def test_no_text_form_shows_the_password():
    """Neither repr nor URL nor error shows the password."""
    credentials = MySQLCredentials(
        host="127.0.0.1", port=1, username="u", password=SecretStr(ODD)
    )
    shown = [repr(credentials), str(credentials), str(credentials.get_url())]
    with pytest.raises(ConnectionFailedError) as caught:
        credentials.test_connection()
    shown.append(str(caught.value))
    assert not any("p@ss" in text or "p%40ss" in text for text in shown)


def test_sqlite_needs_a_path_only(tmp_path):
    """The driver `sqlite` takes the database as a file's path."""
    path = tmp_path / "new" / "lume.db"
    credentials = MySQLCredentials(driver="sqlite", database=str(path))
    assert "connected, sqlite 3." in credentials.test_connection()
    assert path.exists()


def test_engine_is_shared_within_a_process():
    """Equal Blocks share one engine; another password makes another one."""
    one, same, other = (
        MySQLCredentials(host="db.example", username="u", password=SecretStr(password))
        for password in "aab"
    )
    assert one.get_engine() is same.get_engine() is one.get_client()
    assert one.get_engine() is not other.get_engine()


def test_block_with_an_open_engine_can_be_pickled():
    """A Block is plain data: the engine belongs to the process, not to it."""
    credentials = MySQLCredentials(username="u", password=SecretStr(ODD))
    credentials.get_engine()
    copy = pickle.loads(pickle.dumps(credentials))
    assert copy.get_url() == credentials.get_url()


@pytest.mark.parametrize(
    ("driver", "fields", "expected"),
    [
        ("mysql+pymysql", {}, {}),
        ("mysql+pymysql", {"tls_mode": "disabled"}, {"ssl_disabled": True}),
        (
            "mysql+pymysql",
            {"tls_mode": "required"},
            {"ssl": {"verify_mode": "none", "check_hostname": False}},
        ),
        (
            "mysql+pymysql",
            {"tls_mode": "verify-identity", "tls_ca": "/ca.pem"},
            {
                "ssl": {
                    "ca": "/ca.pem",
                    "verify_mode": "required",
                    "check_hostname": True,
                }
            },
        ),
        (
            "postgresql+psycopg",
            {"tls_mode": "verify-identity", "tls_ca": "/ca.pem"},
            {"sslmode": "verify-full", "sslrootcert": "/ca.pem"},
        ),
    ],
)
def test_tls_fields_become_the_drivers_arguments(driver, fields, expected):
    """Each TLS mode is what the driver calls it."""
    credentials = MySQLCredentials(driver=driver, **fields)
    assert credentials._tls_arguments() == expected


def test_verification_without_an_authority_is_refused():
    """`verify-ca` without a certificate says which field is missing."""
    credentials = MySQLCredentials(tls_mode="verify-ca")
    with pytest.raises(ConfigurationError, match="tls_ca"):
        credentials.get_engine()


def test_tls_of_an_unknown_driver_points_to_connect_args():
    """TLS fields of a driver that has none here are refused, not ignored."""
    credentials = MySQLCredentials(driver="mysql+mysqldb", tls_mode="required")
    with pytest.raises(ConfigurationError, match="connect_args"):
        credentials.get_engine()


def test_unknown_driver_is_named():
    """A driver that SQLAlchemy does not know is named, with examples."""
    credentials = MySQLCredentials(driver="mysqlx+nothing")
    with pytest.raises(ConfigurationError, match=r"mysqlx\+nothing.*mysql\+pymysql"):
        credentials.get_engine()


def test_password_without_user_is_refused():
    """A password alone would be ignored silently: it is refused."""
    with pytest.raises(ConfigurationError, match="username"):
        MySQLCredentials(password=SecretStr("x")).get_engine()


@pytest.mark.parametrize("port", [0, 65536, "x"])
def test_port_out_of_range_is_refused(port):
    """A port is 1 to 65535."""
    with pytest.raises(ValidationError, match="port"):
        MySQLCredentials(port=port)


def test_unknown_host_and_refused_differ():
    """One line says whether the name is unknown or nobody listens."""
    with pytest.raises(ConnectionFailedError, match="unknown host"):
        MySQLCredentials(host="nohost.invalid").test_connection()
    with pytest.raises(ConnectionFailedError, match="refused"):
        MySQLCredentials(host="127.0.0.1", port=1).test_connection()
