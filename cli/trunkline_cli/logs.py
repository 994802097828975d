"""Logging for the commands: the one place that configures it. A library, and a host that embeds it, does not.

Logs go to standard error, since standard output may belong to the protocol. Our own loggers log from the
level that was asked for; those of libraries from WARNING, as some of them log whole payloads below.
"""

from __future__ import annotations

import datetime as dt
import logging
import sys
from typing import Any, Literal, TypeAlias

import orjson

__all__ = ["FORMATS", "LEVELS", "JsonFormatter", "LogFormat", "TextFormatter", "configure"]

LogFormat: TypeAlias = Literal["text", "json"]

FORMATS: tuple[LogFormat, ...] = ("text", "json")

LEVELS = ("debug", "info", "warning", "error")

_OUR_LOGGERS = ("trunkline", "trunkline_cli")

# What every record has; whatever else it has was given through `extra`.
_RECORD_MEMBERS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """One line a record for people: time, level, logger, message, then what `extra` gave as `name=value`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is the library's
        """Return the line, without what comes below it."""
        line = super().formatMessage(record)
        return " ".join([line, *(f"{name}={value}" for name, value in _extras(record).items())])


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, what `extra` gave, `exception`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        time = dt.datetime.fromtimestamp(record.created, dt.UTC)
        members: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            members["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(members, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def configure(level: str, log_format: LogFormat = "text", handler: logging.Handler | None = None) -> None:
    """Set up logging for the process.

    Args:
        level: one of `LEVELS`.
        log_format: one of `FORMATS`.
        handler: where records go; None for standard error.

    """
    handler = handler or logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    # Not only added to: importing `websocket_server` puts a handler of its own here.
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OUR_LOGGERS:
        logging.getLogger(name).setLevel(level.upper())


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _RECORD_MEMBERS}
