"""The MongoDB store on mongomock, for machines without a server.

The contract over a real server is in tests/contract. Left out here is what mongomock
does unlike MongoDB: GridFS, the server's clock, projections, requests of several
replacements, writers beside each other, and parts of the query language.
"""

import mongomock
import pytest

from prefect_lume.results.stores import MongoDBService
from prefect_lume.results.stores.mongo import service as store
from prefect_lume.testing import DBServiceContract

UNLIKE_MONGODB = {
    "test_what_is_not_there_is_not_found",
    "test_of_many_writers_of_one_key_one_wins",
    "test_queries_mean_the_same_everywhere",
    "test_generated_queries_mean_the_same",
    "test_sorting_means_the_same_everywhere",
    "test_projections_keep_what_is_asked",
    "test_distinct_values_are_sorted",
    "test_a_blob_comes_back",
    "test_a_large_blob_comes_back",
    "test_a_blob_with_a_wrong_hash_is_not_stored",
    "test_only_unused_blobs_are_cleaned_up",
    "test_of_many_replaced_the_last_stays",
    "test_each_of_many_replaced_has_its_own_outcome",
    "test_a_document_is_never_without_its_blob",
    "test_many_documents_with_blobs",
    "test_blobs_go_when_their_last_document_went",
    "test_a_clean_up_never_takes_what_a_writer_stores",
    "test_blobs_of_any_content_come_back",
    "test_writers_of_one_large_blob",
    "test_a_large_blob_that_fails_leaves_nothing",
    "test_the_clock_is_right",
    "test_writers_of_overlapping_batches",
}


class TestMongoDBOnMongomock(DBServiceContract):
    """The part of the contract that mongomock can tell anything about."""

    locals().update(dict.fromkeys(UNLIKE_MONGODB))

    @pytest.fixture
    def db_service(self, monkeypatch):
        """A service on a client that is new for each test."""
        client = mongomock.MongoClient()
        # mongomock knows no type registry, and its client has no seeds to describe.
        monkeypatch.setattr(store, "_CODEC", None)
        monkeypatch.setattr(MongoDBService, "where", "mongomock")
        return MongoDBService(lambda: client["results"])


def test_what_is_left_out_is_part_of_the_contract():
    """A contract test that is renamed is not left out unnoticed."""
    assert set(dir(DBServiceContract)) >= UNLIKE_MONGODB
