"""Packages from a web server: fetched whole, bounded, kept by their hash."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from prefect_lume.errors import PackageError
from prefect_lume.packages import inspect_source
from prefect_lume.packages.downloads import download

Answer = Callable[[BaseHTTPRequestHandler], None]


class Site:
    """A web server of the test's own, on the loopback interface.

    Attributes:
        answers: Path → what answers it.
        asked: The paths that were asked for, with the encodings that were accepted.
    """

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                site.asked.append((path, self.headers.get("Accept-Encoding", "")))
                site.answers[path](self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def file(self, path: str, content: bytes, length: int | None = None) -> str:
        """Serve a file and return its address."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            size = len(content) if length is None else length
            request.send_header("Content-Length", str(size))
            request.end_headers()
            request.wfile.write(content)

        self.answers[path] = answer
        return self.url + path

    def redirect(self, path: str, target: str) -> str:
        """Lead from a path to an address."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(302)
            request.send_header("Location", target)
            request.send_header("Content-Length", "0")
            request.end_headers()

        self.answers[path] = answer
        return self.url + path

    def error(self, path: str, status: int) -> str:
        """Answer a path with an error."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(status)
            request.send_header("Content-Length", "0")
            request.end_headers()

        self.answers[path] = answer
        return self.url + path


@pytest.fixture
def site() -> Iterator[Site]:
    """A web server."""
    site = Site()
    thread = threading.Thread(target=site.server.serve_forever)
    thread.start()
    yield site
    site.server.shutdown()
    thread.join()
    site.server.server_close()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folder that packages are kept in."""
    return tmp_path / "kept"


def left(folder: Path) -> list[Path]:
    """Return the files in a folder, however deep."""
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_package_is_kept_under_its_hash(
    site: Site, kept: Path, make_sdist: Callable[..., Path]
) -> None:
    """The very bytes, once, from which the package can be read."""
    content = make_sdist().read_bytes()
    address = site.file("/v1/my_model-1.2.0.tar.gz", content)
    found = download(address, kept)
    digest = hashlib.sha256(content).hexdigest()
    assert found == kept / digest / "my_model-1.2.0.tar.gz"
    assert found.read_bytes() == content
    assert inspect_source(found).sha256 == digest
    assert download(f"{address}?token=secret", kept) == found
    assert left(kept) == [found]
    assert site.asked == [("/v1/my_model-1.2.0.tar.gz", "identity")] * 2


def test_redirects_are_followed(site: Site, kept: Path) -> None:
    """As a release page needs; the name is that of the address that was given."""
    site.file("/storage/42", b"content")
    address = site.redirect("/a-1.tar.gz", "/storage/42")
    assert download(address, kept).name == "a-1.tar.gz"


def test_redirects_have_an_end(site: Site, kept: Path) -> None:
    """An address that leads to itself is given up."""
    address = site.redirect("/a-1.tar.gz", "/a-1.tar.gz")
    with pytest.raises(PackageError, match="TooManyRedirects"):
        download(address, kept)
    assert len(site.asked) <= 7


def test_no_redirect_leads_out_of_https(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From https to http, where anybody may change what comes, is refused."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "https":
            return httpx.Response(302, headers={"Location": "http://example.org/x"})
        return httpx.Response(200, content=b"changed")

    client = httpx.Client

    def mocked(**options: object) -> httpx.Client:
        return client(transport=httpx.MockTransport(answer), **options)  # type: ignore[arg-type]

    monkeypatch.setattr(httpx, "Client", mocked)
    with pytest.raises(PackageError, match="from https to http"):
        download("https://example.org/a-1.tar.gz", kept)
    assert left(kept) == []


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/..",
        "/%2e%2e%2f%2e%2e%2fetc%2fpasswd%00.tar.gz",
        "/..%2fa-1.tar.gz/..",
        "/a%5c..%5cb.tar.gz",
        "/.hidden.tar.gz",
        f"/{'a' * 300}.tar.gz",
        "/a%0a.tar.gz",
    ],
)
def test_names_that_lead_out_of_the_folder_are_refused(
    site: Site, kept: Path, path: str
) -> None:
    """What is no plain name of a package is refused before anything is asked."""
    with pytest.raises(PackageError, match="does not end in the name of a package"):
        download(site.url + path, kept)
    assert site.asked == []
    assert not kept.exists()


@pytest.mark.parametrize("status", [404, 403, 500])
def test_an_error_of_the_server_is_named(site: Site, kept: Path, status: int) -> None:
    """The message has the status and the address, without what is secret in it."""
    address = site.error("/a-1.tar.gz", status).replace("//", "//me:hidden@")
    with pytest.raises(PackageError, match=f"answered {status}") as caught:
        download(f"{address}?token=secret", kept)
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert left(kept) == []


def test_a_server_that_is_not_there_is_named(site: Site, kept: Path) -> None:
    """Nobody listens: a PackageError that says what to check."""
    free = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = free.server_port
    free.server_close()
    with pytest.raises(PackageError, match="ConnectError"):
        download(f"http://127.0.0.1:{port}/a-1.tar.gz", kept)


def test_half_a_package_is_never_kept(site: Site, kept: Path) -> None:
    """A connection that is lost half-way leaves nothing behind."""
    address = site.file("/a-1.tar.gz", b"half", length=8)
    with pytest.raises(PackageError, match="RemoteProtocolError"):
        download(address, kept)
    assert left(kept) == []


def test_what_is_too_large_or_too_slow_is_given_up(site: Site, kept: Path) -> None:
    """Both limits hold while it is fetched, whatever the server announced."""
    address = site.file("/a-1.tar.gz", b"x" * 1001)
    with pytest.raises(PackageError, match="larger than 1,000 bytes"):
        download(address, kept, most_bytes=1000)
    with pytest.raises(PackageError, match="too long"):
        download(address, kept, patience=-1)
    assert left(kept) == []
    assert download(address, kept, most_bytes=1001).stat().st_size == 1001
