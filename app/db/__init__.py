"""The database: one pool of psycopg connections, and the supervisor of the embedded PostgreSQL."""
