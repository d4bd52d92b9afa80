"""The real PostgreSQL and Valkey of a machine that has none: where they listen, how they start and stop."""

from infra.embedded.addresses import database_url, redis_url
from infra.embedded.servers import Servers, ServersRunning

__all__ = ["Servers", "ServersRunning", "database_url", "redis_url"]
