import pytest
from prefect_lume.results.stores import MongoDBService
from prefect_lume.storage.mongo import database_of, get_client
from prefect_lume.testing.results_writes import WriteContract
class TestReal(WriteContract):
    @pytest.fixture
    def db_service(self, mongodb_url):
        return MongoDBService(get_client(mongodb_url)[database_of(mongodb_url)])
