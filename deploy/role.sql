-- Creates the application's role, which owns its database and nothing else. The role has the session settings because
-- the application cannot set them through PgBouncer in transaction mode. Run it once as a superuser:
--   DATABASE_PASSWORD=... psql --set ON_ERROR_STOP=1 --file deploy/role.sql
\getenv password DATABASE_PASSWORD
CREATE ROLE loyalty LOGIN PASSWORD :'password';
ALTER ROLE loyalty SET lock_timeout = '2s';
ALTER ROLE loyalty SET statement_timeout = '5s';
ALTER ROLE loyalty SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE loyalty SET default_transaction_isolation = 'read committed';
-- manage.py doctor reads the lag of standbys, which other roles do not see.
GRANT pg_read_all_stats TO loyalty;
CREATE DATABASE loyalty OWNER loyalty;
