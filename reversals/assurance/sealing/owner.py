"""Names the database that may append to the anchor, so that a restored copy of it cannot."""

from django.db import connection

# A restore to a moment and a failover begin a new timeline; pg_restore and CREATE DATABASE ... TEMPLATE make a database
# with another id. Note: the timeline of pg_control_checkpoint() lags behind until the first checkpoint.
_POSTGRESQL = (
    "SELECT 'PostgreSQL ' || system_identifier || ', timeline '"
    " || ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"
    " || ', database ' || (SELECT oid FROM pg_database WHERE datname = current_database())"
    " FROM pg_control_system()"
)
_SQLITE = "SELECT 'SQLite ' || file FROM pragma_database_list WHERE name = 'main'"


def this_database() -> str:
    """Returns a name of the connected database that its restored copies do not have."""
    with connection.cursor() as cursor:
        cursor.execute(_POSTGRESQL if connection.vendor == "postgresql" else _SQLITE)
        (name,) = cursor.fetchone()
    return str(name)
