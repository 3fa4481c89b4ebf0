"""Fetches a model package from a web server, so that it can be read here."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from prefect_lume._fingerprint import sha256_file
from prefect_lume.errors import PackageError, clip

if TYPE_CHECKING:
    import httpx

#: The most bytes of a package that are fetched.
MOST_BYTES: Final = 2 << 30
#: Seconds that the server may be silent, and that the whole may take.
_SILENCE: Final = 60.0
_PATIENCE: Final = 3600.0
_REDIRECTS: Final = 5
_AS_IT_IS: Final = {"Accept-Encoding": "identity"}
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,199}\Z")


def is_remote(uri: str) -> bool:
    """Tell whether a URI names something on a web server.

    Example:
        >>> is_remote("https://example.org/a.tar.gz"), is_remote("/opt/a.tar.gz")
        (True, False)
    """
    return urlsplit(uri).scheme.lower() in {"http", "https"}


def without_secret(uri: str) -> str:
    """Return a URI without user name, password, query and fragment.

    Example:
        >>> without_secret("https://me:secret@example.org/a.tar.gz?token=x")
        'https://example.org/a.tar.gz'
    """
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()


def download(
    uri: str,
    folder: Path,
    *,
    most_bytes: int = MOST_BYTES,
    patience: float = _PATIENCE,
) -> Path:
    """Fetch a package into a folder of its own there, named by its hash.

    Certificates are verified, and what begins with ``https`` stays with it; so many
    redirects are followed as a release page needs.
    The content is written beside its place first, so that no half of a package is
    ever found under its name.

    Args:
        uri: An ``http`` or ``https`` address of an sdist or wheel.
        folder: Where to keep it.
        most_bytes: How large it may be.
        patience: Seconds that it may take.

    Returns:
        The file: ``<folder>/<sha256>/<name>``.

    Raises:
        PackageError: It cannot be fetched, is too large, or its name is not that of a
            package.
    """
    import httpx

    shown = clip(without_secret(uri), 200)
    name = unquote(urlsplit(uri).path).rpartition("/")[2]
    if not _NAME.match(name):
        raise PackageError(
            f"{shown} does not end in the name of a package. Give the address of the "
            f"sdist (.tar.gz) or wheel (.whl) itself."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetching-") as place:
        part = Path(place) / name
        try:
            with (
                httpx.Client(
                    follow_redirects=True, max_redirects=_REDIRECTS, timeout=_SILENCE
                ) as client,
                # The bytes of the file itself, whose hash is kept.
                client.stream("GET", uri, headers=_AS_IT_IS) as response,
            ):
                _check(response, shown)
                limit = time.monotonic() + patience
                _write(response, part, most_bytes, limit, shown)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise PackageError(
                f"{shown} cannot be fetched: {clip(type(error).__name__)}. Check the "
                f"address and the network, or give the path of a copy."
            ) from error
        target = folder / sha256_file(part) / name
        target.parent.mkdir(exist_ok=True)
        part.replace(target)
    return target


def _check(response: httpx.Response, shown: str) -> None:
    schemes = [item.url.scheme for item in (*response.history, response)]
    if "https" in schemes and "http" in schemes[schemes.index("https") :]:
        raise PackageError(
            f"{shown} cannot be fetched: the server leads from https to http, where "
            f"anybody may change what comes. Give the address of an https server."
        )
    if response.is_error:
        raise PackageError(
            f"{shown} cannot be fetched: the server answered {response.status_code} "
            f"{response.reason_phrase}. Check the address, or give the path of a copy."
        )


def _write(
    response: httpx.Response, part: Path, most_bytes: int, limit: float, shown: str
) -> None:
    size = 0
    with part.open("wb") as stream:
        for piece in response.iter_raw():
            size += len(piece)
            if size > most_bytes:
                raise PackageError(
                    f"{shown} is larger than {most_bytes:,} bytes, the most that is "
                    f"fetched. Fetch it by hand and give the path."
                )
            if time.monotonic() > limit:
                raise PackageError(
                    f"{shown} takes too long to fetch. Fetch it by hand and give the "
                    f"path."
                )
            stream.write(piece)
