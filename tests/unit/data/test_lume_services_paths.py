"""Code of LUME-services runs with nothing but the package's name changed."""

import textwrap

import prefect_lume.data.results
import prefect_lume.results as ours
from prefect_lume.data.results.db.db_service import BServiceConfig, DBServiceConfig
from prefect_lume.data.results.db.document import DocumentBase
from prefect_lume.data.results.db.models import ModelDocs
from prefect_lume.results import Result
from prefect_lume.results.stores import DBService, SQLDBService
from prefect_lume.storage.sql import get_engine

# From the documentation of LUME-services; "..." stands for the methods.
SNIPPET = """
from lume_services.data.results.db.db_service import DBService, BServiceConfig
from lume_services.data.results.results_service import ResultsService

class MyCustomDBService(DBService):
    ...

class CustomDBServiceConfig(BServiceConfig):
    url: str

custom_db_service_config = CustomDBServiceConfig(
    url="blah://my-connection-url",
)

my_db_service = MyCustomDBService(
    custom_db_service_config
)
results_db_service = ResultsService(my_db_service)
"""


def written_out(snippet):
    """Return the snippet for this package, with the methods in place of the dots."""
    methods = sorted(DBService.__abstractmethods__ - {"close"})
    body = "\n".join(
        f"def {name}(self, *args, **named):\n"
        f"    return getattr(self.inner, {name!r})(*args, **named)"
        for name in methods
    )
    body += "\ndef close(self):\n    pass"
    return snippet.replace("lume_services.", "prefect_lume.").replace(
        "    ...", textwrap.indent(body, "    ")
    )


def test_the_documented_database_service_runs(tmp_path):
    """The three steps of LUME-services' documentation make a service that stores."""
    inner = SQLDBService(get_engine(f"sqlite:///{tmp_path / 'lume.db'}"))
    inner.create_tables()
    names = {}
    exec(written_out(SNIPPET), names)
    service = names["results_db_service"]
    assert isinstance(service, ours.ResultsService)
    assert names["my_db_service"].config.url == "blah://my-connection-url"
    names["my_db_service"].inner = inner
    reference = service.store(Result(project_name="p", outputs={"x": 1}))
    assert service.load(reference).outputs == {"x": 1}


def test_the_paths_lead_to_the_same_classes():
    """The old import paths are other names for ours, no copies."""
    assert DocumentBase is ours.DocumentBase
    assert ModelDocs is ours.ModelDocs
    assert BServiceConfig is DBServiceConfig
    assert prefect_lume.data.results.Result is Result

    class MyDocs(ModelDocs):
        """An extended set of document types, as the documentation suggests."""

    assert sorted(MyDocs)[:2] == ["Generic", "Impact"]
