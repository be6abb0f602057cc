"""Django's PostgreSQL backend, with waits that are limited."""
