"""The contract suite of pipelines storages, over the one in this folder."""

from pathlib import Path

import pytest
from pipeline_store import FilePipelineStorage

from prefect_lume.testing import PipelineStorageContract


class TestFilePipelineStorage(PipelineStorageContract):
    """Every test of the suite, over a new folder each."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> FilePipelineStorage:
        """Return the storage under test."""
        return FilePipelineStorage(tmp_path)
