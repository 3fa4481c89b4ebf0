"""Prefect's own standard for Blocks, over every Block of the collection."""

import io
from pathlib import Path

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite, blocks

from prefect_lume.credentials import LumeServices, MongoDBCredentials, MySQLCredentials
from prefect_lume.credentials._common import LOGO_URL
from prefect_lume.filesystems import LumeResultsStorage

CREDENTIALS: list[type[Block]] = [LumeServices, MongoDBCredentials, MySQLCredentials]
BLOCKS = [*CREDENTIALS, LumeResultsStorage]
LOGO = Path(__file__).parents[3] / "docs" / "assets" / "logo.png"


class TestEveryBlock(BlockStandardTestSuite):
    """Description, example, field texts, documentation address and logo."""

    @pytest.fixture(params=BLOCKS, ids=lambda block: block.__name__)
    def block(self, request):
        """Each Block in turn."""
        return request.param

    @pytest.fixture(autouse=True)
    def logo_from_the_repository(self, monkeypatch):
        """The logo's address is the published documentation: serve its source."""

        def urlopen(url):
            assert url == LOGO_URL
            return io.BytesIO(LOGO.read_bytes())

        monkeypatch.setattr(blocks, "urlopen", urlopen)


def test_the_collection_lists_every_block():
    """The modules that Prefect loads export exactly the tested Blocks."""
    from prefect_lume import credentials, filesystems

    names = sorted(block.__name__ for block in CREDENTIALS)
    assert sorted(credentials.__all__) == names
    exported = [getattr(filesystems, name) for name in filesystems.__all__]
    assert [one for one in exported if issubclass(one, Block)] == [LumeResultsStorage]


def test_the_suite_runs_over_blocks_not_over_nothing():
    """Every Block has a slug of its own."""
    slugs = {block.get_block_type_slug() for block in BLOCKS}
    assert slugs == {
        "lume-results-storage",
        "lume-services",
        "mongodb-credentials",
        "mysql-credentials",
    }


def test_block_fields_are_documented_in_the_docs_page():
    """The documentation page names every Block and every one of its fields."""
    page = (Path(__file__).parents[3] / "docs" / "blocks.md").read_text()
    for block in BLOCKS:
        assert f"## {block.__name__}" in page
        section = page.partition(f"## {block.__name__}")[2].partition("\n## ")[0]
        for field in block.model_fields:
            assert f"`{field}`" in section, f"{block.__name__}.{field}"
