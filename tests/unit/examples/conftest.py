"""Makes the example package importable from its source folder."""

import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "injector"

if str(EXAMPLE) not in sys.path:
    sys.path.insert(0, str(EXAMPLE))


@pytest.fixture(scope="session")
def injector_folder() -> Path:
    """The folder of the example package."""
    return EXAMPLE
