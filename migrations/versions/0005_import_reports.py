"""Reports of imports apart from the imports: an entry for each line worth telling of, packed by part; lease owners."""

import json
import zlib

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COUNTS = (
    "repeated",
    "problems_kept",
    "problems_left_out",
    "problem_bytes",
    "lines_kept",
    "lines_left_out",
    "line_bytes",
)
AT_ONCE = 100
SHOWN = 1000

STATEMENTS = (
    """
    CREATE TABLE import_entry (
        job_id UUID NOT NULL,
        number INTEGER NOT NULL,
        last_line INTEGER NOT NULL,
        problem_count INTEGER NOT NULL,
        problems BYTEA,
        line_count INTEGER NOT NULL,
        lines BYTEA,
        PRIMARY KEY (job_id, number),
        FOREIGN KEY(job_id) REFERENCES import_job (id) ON DELETE CASCADE
    )
    """,
    # What is in it is packed already.
    "ALTER TABLE import_entry ALTER COLUMN problems SET STORAGE EXTERNAL, ALTER COLUMN lines SET STORAGE EXTERNAL",
    """
    CREATE TABLE import_name (
        job_id UUID NOT NULL,
        name BIGINT NOT NULL,
        PRIMARY KEY (job_id, name),
        FOREIGN KEY(job_id) REFERENCES import_job (id) ON DELETE CASCADE
    )
    """,
    "ALTER TABLE import_job ADD COLUMN lease_owner UUID, "
    + ", ".join(f"ADD COLUMN {name} INTEGER DEFAULT 0 NOT NULL" for name in COUNTS),
)


def _packed(entries: list[dict[str, object]]) -> bytes | None:
    # The number comes first; JSONB has its own order.
    ordered = ({"line": entry["line"], **entry} for entry in entries)
    lines = "".join(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n" for entry in ordered)
    return zlib.compress(lines.encode()) if entries else None


def _unpacked(packed: bytes | None) -> list[dict[str, object]]:
    return [] if packed is None else [json.loads(line) for line in zlib.decompress(packed).decode().split("\n") if line]


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
    connection = op.get_bind()
    told = sa.text(
        "SELECT id, problems, lines, failed, CASE WHEN dry_run THEN created + updated + unchanged ELSE 0 END"
        " FROM import_job WHERE (problems <> '[]' OR lines <> '[]') AND (CAST(:after AS uuid) IS NULL OR id > :after)"
        f" ORDER BY id LIMIT {AT_ONCE}"
    )
    after = None
    while rows := connection.execute(told, {"after": after}).all():
        for id_, problems, lines, failed, judged in rows:
            kept = {
                "id": id_,
                "last": max(entry["line"] for entry in (*problems, *lines)),
                "problem_count": len(problems),
                "problems": _packed(problems),
                "line_count": len(lines),
                "lines": _packed(lines),
            }
            connection.execute(
                sa.text(
                    "INSERT INTO import_entry VALUES (:id, 0, :last, :problem_count, :problems, :line_count, :lines)"
                ),
                kept,
            )
            sizes = {
                "problem_bytes": len(kept["problems"] or b""),
                "line_bytes": len(kept["lines"] or b""),
                "problems_left_out": max(0, failed - len({entry["line"] for entry in problems})),
                "lines_left_out": max(0, judged - len(lines)),
            }
            connection.execute(
                sa.text(
                    "UPDATE import_job SET problems_kept = :problem_count, problem_bytes = :problem_bytes,"
                    " problems_left_out = :problems_left_out, lines_kept = :line_count, line_bytes = :line_bytes,"
                    " lines_left_out = :lines_left_out WHERE id = :id"
                ),
                {**kept, **sizes},
            )
        after = rows[-1][0]
    op.execute("ALTER TABLE import_job DROP COLUMN problems, DROP COLUMN lines")


def downgrade() -> None:
    op.execute(
        "ALTER TABLE import_job ADD COLUMN problems JSONB DEFAULT '[]' NOT NULL,"
        " ADD COLUMN lines JSONB DEFAULT '[]' NOT NULL"
    )
    connection = op.get_bind()
    told = sa.text(
        "SELECT DISTINCT job_id FROM import_entry WHERE CAST(:after AS uuid) IS NULL OR job_id > :after"
        f" ORDER BY job_id LIMIT {AT_ONCE}"
    )
    parts = sa.text("SELECT problems, lines FROM import_entry WHERE job_id = :id ORDER BY number")
    after = None
    while jobs := connection.execute(told, {"after": after}).scalars().all():
        for id_ in jobs:
            problems: list[dict[str, object]] = []
            lines: list[dict[str, object]] = []
            for row in connection.execute(parts, {"id": id_}):
                if len(problems) < SHOWN:
                    problems += _unpacked(row.problems)
                if len(lines) < SHOWN:
                    lines += [line for line in _unpacked(row.lines) if line["action"] != "repeated"]
            connection.execute(
                sa.text(
                    "UPDATE import_job SET problems = CAST(:problems AS jsonb), lines = CAST(:lines AS jsonb)"
                    " WHERE id = :id"
                ),
                {"id": id_, "problems": json.dumps(problems[:SHOWN]), "lines": json.dumps(lines[:SHOWN])},
            )
        after = jobs[-1]
    op.execute("ALTER TABLE import_job DROP COLUMN lease_owner, " + ", ".join(f"DROP COLUMN {name}" for name in COUNTS))
    op.drop_table("import_name")
    op.drop_table("import_entry")
