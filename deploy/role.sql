-- What each session of the application's role begins with. Through PgBouncer in transaction mode the application cannot
-- say it itself. Run as who owns the role, with psql connected as that role's database.
ALTER ROLE CURRENT_USER SET lock_timeout = '2s';
ALTER ROLE CURRENT_USER SET statement_timeout = '5s';
ALTER ROLE CURRENT_USER SET idle_in_transaction_session_timeout = '10s';
