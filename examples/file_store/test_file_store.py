"""The contract suite of results databases, over the one in this directory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from file_store import FileDBService, FileDBServiceConfig

from prefect_lume.testing import DBServiceContract


class TestFileDBService(DBServiceContract):
    """Every test of the suite, over a new directory each."""

    @pytest.fixture
    def db_service(self, tmp_path: Path) -> Iterator[FileDBService]:
        """Return the service under test."""
        config = FileDBServiceConfig(directory=tmp_path)
        with FileDBService(config) as service:
            yield service
