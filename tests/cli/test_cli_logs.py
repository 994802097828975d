from __future__ import annotations

import io
import logging

import orjson
import pytest

from trunkline_cli import logs
from trunkline_cli.logs import LogFormat

OURS = logging.getLogger("trunkline.test")
THEIRS = logging.getLogger("websockets.test")


def configured(level: str, log_format: LogFormat) -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, log_format, logging.StreamHandler(stream))
    return stream


def test_text_is_a_line_with_what_extra_gave() -> None:
    stream = configured("info", "text")
    OURS.info("= connection %d: open", 3, extra={"connection_id": 3, "thread_id": "t"})
    line = stream.getvalue()
    assert line.endswith(" INFO    trunkline.test: = connection 3: open connection_id=3 thread_id=t\n")


def test_json_is_an_object_a_line() -> None:
    stream = configured("info", "json")
    OURS.warning("two\nlines %s", "é", extra={"connection_id": 3})
    assert stream.getvalue().count("\n") == 1
    record = orjson.loads(stream.getvalue())
    assert record.pop("time").endswith("+00:00")
    assert record == {
        "level": "warning",
        "logger": "trunkline.test",
        "message": "two\nlines é",
        "connection_id": 3,
    }


def test_json_carries_an_exception_as_text() -> None:
    stream = configured("info", "json")
    try:
        raise ValueError("a bug")
    except ValueError:
        OURS.exception("x it failed", extra={"what": object})
    record = orjson.loads(stream.getvalue())
    assert record["exception"].endswith("ValueError: a bug")
    assert record["what"] == "<class 'object'>"


@pytest.mark.parametrize("log_format", logs.FORMATS)
def test_libraries_log_from_warning_however_much_we_log(log_format: LogFormat) -> None:
    stream = configured("debug", log_format)
    OURS.debug("ours")
    THEIRS.debug("a payload")
    THEIRS.warning("theirs")
    assert stream.getvalue().count("\n") == 2
    assert "payload" not in stream.getvalue()


def test_the_level_is_ours() -> None:
    stream = configured("error", "text")
    OURS.warning("not this")
    OURS.error("this")
    assert stream.getvalue().count("\n") == 1


def test_what_others_have_put_on_the_root_logger_is_taken_off() -> None:
    logging.getLogger().addHandler(logging.StreamHandler(other := io.StringIO()))
    stream = configured("info", "text")
    OURS.info("once")
    assert stream.getvalue().count("once") == 1
    assert other.getvalue() == ""
