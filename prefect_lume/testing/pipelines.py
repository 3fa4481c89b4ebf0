"""The contract of a pipelines storage, as a suite that anyone can run.

Example::

    import pytest
    from prefect_lume.testing import PipelineStorageContract

    class TestMyStorage(PipelineStorageContract):
        @pytest.fixture
        def storage(self):
            storage = MyStorage(url="blah://...")
            yield storage
            storage.close()
"""

from __future__ import annotations

import pytest

from prefect_lume.pipelines import PipelineStorage
from prefect_lume.testing.pipelines_finding import FindingContract
from prefect_lume.testing.pipelines_keeping import KeepingContract
from prefect_lume.testing.pipelines_objects import ObjectsContract
from prefect_lume.testing.pipelines_recording import RecordingContract
from prefect_lume.testing.pipelines_rules import RulesContract
from prefect_lume.testing.pipelines_values import ValuesContract


class PipelineStorageContract(
    ObjectsContract,
    RulesContract,
    RecordingContract,
    KeepingContract,
    FindingContract,
    ValuesContract,
):
    """What every pipelines storage promises. Override ``storage`` and run it.

    A storage on a database without transactions sets ``is_transactional`` to false: a
    unit of work that failed may have left something then, and has to come to the same
    when it is done again.
    """

    @pytest.fixture
    def storage(self) -> PipelineStorage:
        """Return the storage under test, with nothing in it."""
        raise NotImplementedError("Override the fixture 'storage'.")
