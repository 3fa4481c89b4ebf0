"""The MongoDB credentials Block without a server."""

import pytest
from pydantic import SecretStr

from prefect_lume.credentials import MongoDBCredentials
from prefect_lume.errors import ConfigurationError, ConnectionFailedError

ODD = "p@ss/w:rd%#é ' \" \\ ; ? &"


def test_password_of_any_character_reaches_the_driver():
    """User name and password are given to the driver as they are."""
    client = MongoDBCredentials(username="u/x", password=SecretStr(ODD)).get_client()
    assert client.options._options["password"] == ODD
    assert client.options._options["username"] == "u/x"


def test_uri_takes_the_place_of_host_and_port():
    """A URI's hosts, database and replica set are used."""
    credentials = MongoDBCredentials(
        uri=SecretStr("mongodb://a.example:1,b.example:2/beams?replicaSet=rs0")
    )
    client = credentials.get_client()
    assert client.topology_description.replica_set_name == "rs0"
    assert set(client.topology_description.server_descriptions()) == {
        ("a.example", 1),
        ("b.example", 2),
    }
    assert credentials.database_name == "beams"


def test_database_field_wins_over_the_uri():
    """The database is the field, else the URI's own, else `lume`."""
    uri = SecretStr("mongodb://a.example/beams")
    assert MongoDBCredentials(uri=uri, database="mine").database_name == "mine"
    assert MongoDBCredentials().database_name == "lume"


def test_srv_uri_without_dns_records_says_so():
    """`mongodb+srv` of an unknown domain names the DNS, not a traceback."""
    credentials = MongoDBCredentials(uri=SecretStr("mongodb+srv://u:pw@nohost.invalid"))
    with pytest.raises(ConnectionFailedError, match="DNS") as caught:
        credentials.get_client()
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("uri", ["http://x", "mongodb://u:secret/x@h", "mongodb://"])
def test_unreadable_uri_is_refused_without_showing_it(uri):
    """A URI that cannot be read is a configuration error that hides the password."""
    with pytest.raises(ConfigurationError) as caught:
        MongoDBCredentials(uri=SecretStr(uri)).get_client()
    assert "secret" not in str(caught.value)


def test_password_without_user_is_refused():
    """A password alone would be ignored silently: it is refused."""
    with pytest.raises(ConfigurationError, match="username"):
        MongoDBCredentials(password=SecretStr("x")).get_client()


def test_refused_and_unknown_host_differ():
    """One line says whether the name is unknown or nobody listens."""
    with pytest.raises(ConnectionFailedError, match="refused"):
        MongoDBCredentials(host="127.0.0.1", port=1, timeout=3).test_connection()
    with pytest.raises(ConnectionFailedError, match="unknown host"):
        MongoDBCredentials(host="nohost.invalid", timeout=3).test_connection()


def test_no_text_form_shows_a_secret():
    """Neither repr nor error shows the password or the URI that may hold it."""
    credentials = MongoDBCredentials(
        uri=SecretStr("mongodb://u:hunter2@127.0.0.1:1/x"), timeout=1
    )
    with pytest.raises(ConnectionFailedError) as caught:
        credentials.test_connection()
    assert "hunter2" not in repr(credentials) + str(caught.value)


def test_client_is_shared_and_has_the_timeout():
    """Equal Blocks share one client, with the Block's timeout."""
    one = MongoDBCredentials(host="a.example", timeout=3)
    assert (
        one.get_client() is MongoDBCredentials(host="a.example", timeout=3).get_client()
    )
    assert one.get_client().options.server_selection_timeout == 3


def test_tls_files_switch_tls_on():
    """Naming a certificate authority is asking for TLS."""
    options = MongoDBCredentials(tls_ca="/ca.pem")._options()
    assert options["tls"] is True
    assert options["tlsCAFile"] == "/ca.pem"
