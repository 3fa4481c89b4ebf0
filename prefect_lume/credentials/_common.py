"""What the Blocks share: fields of one meaning, documentation and logo."""

from typing import Annotated, Final

from pydantic import Field, SecretStr

_SITE: Final = "https://prefect-lume.readthedocs.io/en/latest"

LOGO_URL: Final = f"{_SITE}/assets/logo.png"


def documentation_url(block: str) -> str:
    """Return the address of a Block's section in the documentation.

    Example:
        >>> documentation_url("LumeServices").rpartition("/")[2]
        'blocks.html#lumeservices'
    """
    return f"{_SITE}/blocks.html#{block.lower()}"


Host = Annotated[str, Field(title="Host", description="Name or address of the server.")]

Username = Annotated[
    str, Field(title="User name", description="Name of the database user.")
]

Password = Annotated[
    SecretStr,
    Field(
        title="Password",
        description="Password of the database user, as it is (not percent-encoded).",
    ),
]

Authority = Annotated[
    str,
    Field(
        title="TLS: certificate authority",
        description="Path of the authority's certificate (PEM).",
    ),
]
