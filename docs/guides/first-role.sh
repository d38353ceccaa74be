#!/bin/sh
# Makes the role `minga`, owner of the database `minga` and nothing else. Used by compose.yaml.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$POSTGRES_PASSWORD" --username postgres --dbname minga <<'SQL'
CREATE ROLE minga LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
ALTER DATABASE minga OWNER TO minga;
ALTER SCHEMA public OWNER TO minga;
SQL
