"""What the Blocks share: where their documentation and logo are."""

from __future__ import annotations

from typing import Final

_SITE: Final = "https://prefect-lume.readthedocs.io/en/latest"

LOGO_URL: Final = f"{_SITE}/assets/logo.png"


def documentation_url(block: str) -> str:
    """Return the address of a Block's section in the documentation.

    Example:
        >>> documentation_url("LumeServices").rpartition("/")[2]
        'blocks.html#lumeservices'
    """
    return f"{_SITE}/blocks.html#{block.lower()}"
