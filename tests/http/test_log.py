"""The log: one JSON object a line, no line breaks from outside, no text of exceptions."""

import json
import logging

import pytest

from app.http import log


@pytest.fixture
def logger(lines: list[str]) -> logging.Logger:
    return logging.getLogger("test.log")


def test_a_line_is_one_json_object(logger: logging.Logger, lines: list[str]) -> None:
    token = log.request_id.set("request-1")
    logger.warning("something\r\nhappened", extra={"route": "/v1/a\n", "password": "zq"})
    log.request_id.reset(token)
    (line,) = lines
    assert "\n" not in line
    found = json.loads(line)
    assert found.pop("time").endswith("Z")
    assert found == {
        "level": "warning",
        "logger": "test.log",
        "message": "something\r\nhappened",
        "request_id": "request-1",
        "route": "/v1/a\n",
    }


def test_exceptions_are_logged_by_type_and_place(logger: logging.Logger, lines: list[str]) -> None:
    def fails() -> None:
        secret = "zqsecret"
        raise ValueError(secret)

    try:
        fails()
    except ValueError:
        logger.exception("failed")
    found = json.loads(lines[0])
    assert found["error"] == "ValueError"
    assert found["at"][-1].endswith(" fails")
    assert "zqsecret" not in lines[0]


def test_configured_once_for_every_logger(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log.configure("warning")
        logging.getLogger("uvicorn.error").error("Invalid HTTP request received.")
        logging.getLogger("uvicorn.access").info("GET /v1/things?q=zq")
        logging.getLogger("app").info("hidden")
    finally:
        root.handlers[:], root.level = before
    printed = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["logger"] for line in printed] == ["uvicorn.error"]
