"""The Blocks: credentials and the choice of services, configured in the Prefect UI.

Prefect imports this module in every process (entry point ``prefect.collections``): it
must stay light and never raise.
"""

from prefect_lume.credentials.mongodb import MongoDBCredentials
from prefect_lume.credentials.mysql import MySQLCredentials
from prefect_lume.credentials.services import LumeServices

__all__ = ["LumeServices", "MongoDBCredentials", "MySQLCredentials"]
