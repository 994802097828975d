"""Logging for the commands: the one place that configures it. A library, and a host that embeds it, does not.

Logs go to standard error, since standard output may belong to the protocol. Our own loggers log from the
level that was asked for; those of libraries from WARNING, as some of them log whole payloads below.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import queue
import sys
import threading
from typing import Any, Literal, TextIO, TypeAlias

import orjson

__all__ = ["FORMATS", "LEVELS", "Behind", "JsonFormatter", "LogFormat", "TextFormatter", "configure"]

LogFormat: TypeAlias = Literal["text", "json"]

FORMATS: tuple[LogFormat, ...] = ("text", "json")

LEVELS = ("debug", "info", "warning", "error")

MAX_WAITING = 10_000
"""Lines that may wait for standard error to take them."""

CLOSE_S = 1.0
"""Seconds that the lines that wait have when the process ends."""

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


class Behind(logging.Handler):
    """Writes behind the backs of those who log: a stream that nobody reads must hold up no actor.

    Args:
        stream: is written to on a thread of the handler's own. Where it cannot be written the line is lost.
        most: lines that may wait; those that are too many are dropped, and counted.

    """

    def __init__(self, stream: TextIO, most: int = MAX_WAITING) -> None:
        super().__init__()
        self._stream = stream
        self._most = most
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="trunkline-log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record written. Never blocks."""
        try:
            if self._lines.qsize() >= self._most:
                self._dropped += 1  # one thread at a time is here: see `Handler.handle`
            else:
                self._lines.put(self.format(record))
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        """Write what waits, as far as it is taken within a moment."""
        self._lines.put(None)
        self._thread.join(CLOSE_S)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            # The one line that may come too late, or be counted once less: a count, and no promise.
            more = f"{dropped} lines of the log are missing here: it is not read as fast as it is written\n"
            with contextlib.suppress(OSError, ValueError):  # it is full, or closed
                self._stream.write(f"{line}\n{more if dropped else ''}")
                self._stream.flush()


def configure(level: str, log_format: LogFormat = "text", handler: logging.Handler | None = None) -> None:
    """Set up logging for the process.

    Args:
        level: one of `LEVELS`.
        log_format: one of `FORMATS`.
        handler: where records go; None for standard error, which may be slow or gone.

    """
    handler = handler or Behind(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    # Not only added to: importing `websocket_server` puts a handler of its own here.
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in _OUR_LOGGERS:
        logging.getLogger(name).setLevel(level.upper())


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _RECORD_MEMBERS}
