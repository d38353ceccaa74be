"""The log: one JSON object a line on standard error, with the request's id and without anything a member sent.

Messages are constants; what varies goes into `extra`. Exceptions are logged as their type and the places they passed,
never their text, which may quote a value. Source: safety O4.
"""

import json
import logging
import sys
import time
from contextvars import ContextVar
from types import TracebackType

request_id: ContextVar[str] = ContextVar("request_id", default="")

EXTRAS = (
    "error",
    "sqlstate",
    "at",
    "method",
    "route",
    "status",
    "duration_ms",
    "check",
    "worker",
    "job",
    "attempt",
    "count",
)


def places(traceback: TracebackType | None, last: int = 12) -> list[str]:
    """`file:line function` of the innermost frames, without values."""
    found = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        file = "/".join(code.co_filename.split("/")[-3:])
        found.append(f"{file}:{traceback.tb_lineno} {code.co_name}")
        traceback = traceback.tb_next
    return found[-last:]


def log_readiness(check: str, error: BaseException) -> None:
    """Logs that a readiness check failed."""
    extra = {"check": check, "error": type(error).__name__}
    logging.getLogger("app.http").warning("not ready", extra=extra)


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; control characters in it are escaped by JSON itself."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current := request_id.get():
            line["request_id"] = current
        for name in EXTRAS:
            value = record.__dict__.get(name)
            if value is not None:
                line[name] = value
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["at"] = places(record.exc_info[2])
        return json.dumps(line, ensure_ascii=True, default=lambda value: type(value).__name__)


def configure(level: str = "info") -> None:
    """Sends every logger of the process to standard error as JSON lines; the server's access log stays off."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers[:] = []
        logger.propagate = name != "uvicorn.access"
    for name in ("httpx", "httpcore", "asyncio", "psycopg.pool", "alembic.runtime.plugins"):
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
