-- The application's role, which owns its database and nothing else, and what each of its sessions begins with: through
-- PgBouncer in transaction mode the application cannot say it itself. Run once by a superuser:
--   DATABASE_PASSWORD=... psql --set ON_ERROR_STOP=1 --file deploy/role.sql
\getenv password DATABASE_PASSWORD
CREATE ROLE loyalty LOGIN PASSWORD :'password';
ALTER ROLE loyalty SET lock_timeout = '2s';
ALTER ROLE loyalty SET statement_timeout = '5s';
ALTER ROLE loyalty SET idle_in_transaction_session_timeout = '10s';
CREATE DATABASE loyalty OWNER loyalty;
