"""The log: structured lines, cheap for the mail, in JSON or in text.

    log = mta.log.get("smtp")
    log.info("message", session=session.id, size=size)

A line has its time (UTC, milliseconds), a level, the name of its logger, an event in a few constant words,
and fields. No secrets go here: no passwords, no message contents. Loggers may be made before `configure`;
until then text goes to standard error. Lines are collected and written together (see `mta.log.sink`); from
warnings up they are written at once, and all that waits is written when the process ends. Fields are read as
late as that: what may change within a moment is given as a copy. Logging never raises.

Built on structlog: `bind` gives a logger with fixed fields, `structlog.testing.capture_logs` works in tests,
and `structlog.get_logger(name)` gives the same loggers, so libraries of ours need not import this package.
What other libraries log through the standard `logging`, from warnings up, comes here too.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import time
from collections.abc import MutableMapping
from functools import partial
from typing import Any, Protocol, cast

from mta.log.absent import absent
from mta.log.render import TimeStamp, as_json, as_text
from mta.log.sink import Sink, open_target

with absent("rich"):
    import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""Levels by name; `critical` cannot be configured as the least one."""


class Settings(Protocol):
    """What `configure` needs; `mta.config.Log` has it."""

    @property
    def format(self) -> str:
        """ "text" or "json"."""

    @property
    def level(self) -> str:
        """Least level that is written: "debug", "info", "warning" or "error"."""

    @property
    def target(self) -> str:
        """ "stderr" or a path."""


class Logger(structlog.BoundLoggerBase):
    """A logger: events with fields. A level that is not written costs a comparison."""

    def debug(self, event: str, **fields: Any) -> None:
        """For the one who looks for a fault: commands, decisions."""
        if _threshold <= 10:
            self._emit("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """What happened as it should: a message, a start, a reload."""
        if _threshold <= 20:
            self._emit("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """What the administrator should look at in time."""
        if _threshold <= 30:
            self._emit("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """What keeps something from working. `exc_info` may be an exception."""
        if _threshold <= 40:
            self._emit("error", event, fields)

    def critical(self, event: str, **fields: Any) -> None:
        """What ends the process."""
        self._emit("critical", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """An error with the exception that is being handled."""
        self.error(event, exc_info=fields.pop("exc_info", sys.exc_info()[1]), **fields)

    def _emit(self, method: str, event: str, fields: dict[str, Any]) -> None:
        if _PROCESSORS[0] is _render and self._processors is _PROCESSORS:  # nobody captures or adds anything
            fields = {**self._context, "event": event, **fields}
            if method in _URGENT:
                _sink.put(_render(self._logger, method, fields), True)
            else:
                # Rendered with those that are written with it: one after the other costs less.
                _sink.put(partial(_render, self._logger, method, fields, time.time()), False)
            return
        # structlog's _proxy_to_logger without another copy of the fields.
        try:
            args, _ = self._process_event(method, event, fields)
        except structlog.DropEvent:
            return
        getattr(self._logger, method)(*args)


def get(name: str) -> Logger:
    """The logger of that name; names are words of the administrator's world: smtp, delivery, supervisor."""
    logger = structlog.wrap_logger(
        _Outlet(name), processors=_PROCESSORS, wrapper_class=Logger, context_class=dict
    )
    return cast(Logger, logger.bind())


def configure(settings: Settings) -> None:
    """Change format, level and target, for all loggers there are.

    Raises OSError if the target cannot be opened; then nothing is changed. The target is opened anew, so a
    file that was rotated away is let go.
    """
    global _json, _colour
    target = open_target(settings.target)
    _sink.change_target(target)
    _json = settings.format == "json"
    _colour = target.terminal and "NO_COLOR" not in os.environ
    set_level(settings.level)
    root = logging.getLogger()
    if not any(isinstance(handler, _Bridge) for handler in root.handlers):
        root.addHandler(_Bridge(logging.WARNING))


def set_level(level: str) -> None:
    """Change the least level that is written. Raises ValueError for an unknown one."""
    global _threshold
    if level not in LEVELS:
        raise ValueError(f"no log level is called {level!r}")
    _threshold = LEVELS[level]


def flush() -> None:
    """Write everything that waits; takes up to a second when the target takes nothing."""
    _sink.flush()


def dropped() -> int:
    """Lines that this process could not write, since its start (a counter for the metrics)."""
    return _sink.dropped


class _Outlet:
    """What structlog wraps: takes a finished line."""

    __slots__ = ("name",)

    def __init__(self, name: str = "") -> None:
        self.name = name

    def debug(self, line: bytes) -> None:
        _sink.put(line, False)

    info = debug

    def warning(self, line: bytes) -> None:
        _sink.put(line, True)

    error = critical = warning


class _Bridge(logging.Handler):
    """Records of the standard `logging` as our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        fields: dict[str, Any] = {"event": record.getMessage()}
        if record.exc_info:
            fields["exc_info"] = record.exc_info[1]
        if _threshold <= record.levelno:
            _sink.put(_render(_Outlet(record.name), level if level in LEVELS else "warning", fields), True)


def _render(outlet: Any, method: str, fields: MutableMapping[str, Any], now: float | None = None) -> bytes:
    stamp = _stamp(time.time() if now is None else now)
    event = fields.get("event")
    try:
        if _json:
            return as_json(stamp, method, outlet.name, fields)
        return as_text(stamp, method, outlet.name, fields, colour=_colour)
    except Exception as problem:  # noqa: BLE001 - a field that nobody can write costs the fields, not the line
        told = {"event": event, "fields_lost": f"{type(problem).__name__}: {problem}"}
        return (as_json if _json else as_text)(stamp, method, outlet.name, told)


def _dropped_line(count: int) -> bytes:
    return _render(_Outlet("log"), "warning", {"event": "log lines dropped", "count": count})


_URGENT = frozenset({"warning", "error", "critical"})
_threshold = 20
_json = False
_colour = False
_stamp = TimeStamp()
_sink = Sink(open_target("stderr"), _dropped_line)
_PROCESSORS: list[Any] = [_render]
structlog.configure(
    processors=_PROCESSORS,
    wrapper_class=Logger,
    context_class=dict,
    logger_factory=_Outlet,
    cache_logger_on_first_use=True,
)
atexit.register(flush)
