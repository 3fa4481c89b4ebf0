"""A recording's own client of Prefect's API."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

import certifi
from prefect.client.orchestration import get_client
from prefect.settings import (
    PREFECT_API_SSL_CERT_FILE,
    PREFECT_API_TLS_INSECURE_SKIP_VERIFY,
    PREFECT_API_URL,
)

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_TIMEOUT: Final = 30.0


def own_client() -> SyncPrefectClient:
    """Return a client that is not the flow's, by the settings of the context.

    The caller enters and leaves it. The flow's own is closed when the flow ends.
    """
    # Settings of its own keep it from being the flow's client.
    settings: dict[str, Any] = {"timeout": _TIMEOUT}
    is_https = (PREFECT_API_URL.value() or "").startswith("https:")
    if not is_https and not PREFECT_API_TLS_INSECURE_SKIP_VERIFY.value():
        settings["verify"] = _LateContext(ssl.PROTOCOL_TLS_CLIENT)
    return get_client(httpx_settings=settings, sync_client=True)


class _LateContext(ssl.SSLContext):
    """Trusts whom Prefect's clients trust, and reads who that is when it is needed.

    Reading the certificates takes longer than all that is asked of a server near by.
    One that is asked without encryption may still send its clients to one with it.
    """

    _is_read = False

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        """Encrypt a connection."""
        if not self._is_read:
            self.load_verify_locations(
                PREFECT_API_SSL_CERT_FILE.value() or certifi.where()
            )
            self._is_read = True
        return super().wrap_socket(*args, **kwargs)
