"""MLflow's client, and its errors as ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from prefect_lume._optional import require
from prefect_lume.errors import (
    ConfigurationError,
    ConnectionFailedError,
    NotFoundError,
    StorageError,
    clip,
)

#: The user name and password of any address in a message.
_LOGIN: Final = re.compile(r"(?<=://)[^/@\s]*@")


def open_client(tracking_uri: str) -> Any:
    """Return an MLflow client of a tracking server or database.

    Args:
        tracking_uri: As MLflow takes it, for example ``http://host:5000`` or
            ``sqlite:///mlflow.db``. It is the registry's URI, too.

    Raises:
        MissingDependencyError: MLflow is not installed.
        ConfigurationError: The URI is empty.
        StorageError: There is no such server or database.
    """
    if not tracking_uri:
        raise ConfigurationError(
            "Say where MLflow is by its tracking URI, for example "
            "http://host:5000 or sqlite:///mlflow.db."
        )
    tracking = require("mlflow.tracking", "The bridge to MLflow")
    with translated(tracking_uri):
        return tracking.MlflowClient(
            tracking_uri=tracking_uri, registry_uri=tracking_uri
        )


def shown(uri: str) -> str:
    """Return a URI without user name, password and query.

    Example:
        >>> shown("postgresql://me:secret@db/mlflow?x=y")
        'postgresql://db/mlflow'
    """
    plain = uri.partition("?")[0].partition("#")[0]
    scheme, found, rest = plain.partition("://")
    if not found:
        return plain
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


@contextmanager
def translated(tracking_uri: str) -> Iterator[None]:
    """Turn MLflow's exceptions into ours, without a secret of the URI.

    Raises:
        NotFoundError: MLflow has no such run, experiment or model.
        ConnectionFailedError: It cannot be asked.
        StorageError: It refused.
    """
    exceptions = require("mlflow.exceptions", "The bridge to MLflow")
    try:
        yield
    except exceptions.MlflowException as error:
        text = str(error).replace(tracking_uri, shown(tracking_uri))
        text = clip(_LOGIN.sub("", text))
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise NotFoundError("object of MLflow", text) from error
        lost = text.startswith("API request to") and "failed with exception" in text
        kind = ConnectionFailedError if lost else StorageError
        where = shown(tracking_uri)
        raise kind(f"{where}: {text}", where) from error
    except OSError as error:
        # What its HTTP client raises when nobody answers.
        where = shown(tracking_uri)
        raise ConnectionFailedError(
            f"{where}: MLflow cannot be reached ({type(error).__name__}).", where
        ) from error
