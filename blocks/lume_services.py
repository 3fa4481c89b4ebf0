"""Save the Blocks of one laboratory's services from the environment.

Run it against the Prefect server that ``PREFECT_API_URL`` names::

    LUME_REGISTRY_HOST=db.example LUME_REGISTRY_PASSWORD=... python lume_services.py

Every field of a Block is a variable: ``LUME_REGISTRY_`` + a field of
``MySQLCredentials`` in capitals, ``LUME_RESULTS_`` + a field of ``MongoDBCredentials``;
``LUME_FILE_STORAGE`` names the filesystem Block, ``LUME_BLOCK_NAME`` the Blocks
themselves (default ``lume``). A service of which nothing is set stays embedded.
"""

import argparse
import os
import sys

from prefect_lume import LumeServices, MongoDBCredentials, MySQLCredentials
from prefect_lume.config import Context


def _fields(kind: type[MySQLCredentials | MongoDBCredentials], prefix: str) -> dict:
    """Return the fields of a Block that the environment sets, as text."""
    return {
        field: os.environ[f"{prefix}_{field.upper()}"]
        for field in kind.model_fields
        if f"{prefix}_{field.upper()}" in os.environ
    }


def build() -> LumeServices:
    """Return the services that the environment describes, nothing saved yet."""
    registry = _fields(MySQLCredentials, "LUME_REGISTRY")
    results = _fields(MongoDBCredentials, "LUME_RESULTS")
    return LumeServices(
        registry=MySQLCredentials(**registry) if registry else None,
        results_mongodb=MongoDBCredentials(**results) if results else None,
        file_storage=os.environ.get("LUME_FILE_STORAGE", ""),
    )


def save(services: LumeServices, name: str) -> None:
    """Save the services and the credentials in them, each as a Block of its own."""
    for block in (services.registry, services.results_mongodb):
        if block is not None:
            block.save(name, overwrite=True)
    services.save(name, overwrite=True)


def main() -> int:
    """Save the Blocks and try each service once; 1 when one cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dry-run", action="store_true", help="save nothing")
    arguments = parser.parse_args()
    name = os.environ.get("LUME_BLOCK_NAME", "lume")
    services = build()
    if not arguments.dry_run:
        save(services, name)
    statuses = Context(services).check()
    for status in statuses:
        print(f"{status.service}: {status.detail}")
    print(f"{'would save' if arguments.dry_run else 'saved'} LumeServices {name!r}")
    return 0 if all(status.ok for status in statuses) else 1


if __name__ == "__main__":
    sys.exit(main())
