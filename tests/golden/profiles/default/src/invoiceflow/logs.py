"""Logs (factor XI): every event is one JSON line on stdout, the libraries' and crashes too."""

import logging
import sys
import threading
import warnings
from datetime import UTC, datetime
from types import TracebackType

import orjson
import structlog
from structlog.typing import EventDict, WrappedLogger

from .config import Settings

_identity: dict[str, str] = {}


def start(process: str) -> None:
    """Print events as JSON from here on, the ones about bad settings included."""
    _identity["process"] = process
    structlog.configure(
        cache_logger_on_first_use=False,  # identify() sets the level once the settings are known
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.format_exc_info,
            _line,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
    )
    logging.basicConfig(handlers=[_Forward()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    warnings.simplefilter("default")
    sys.excepthook = _crash
    threading.excepthook = lambda args: _crash(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )


def identify(settings: Settings) -> None:
    """Put the release and the commit on every line, and keep lines below LOG_LEVEL back."""
    _identity.update(release=settings.release_id, revision=settings.revision)
    level = logging.getLevelNamesMapping()[settings.log_level]
    structlog.configure(
        cache_logger_on_first_use=True,
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    # Libraries say at INFO what the service's own events say better.
    logging.getLogger().setLevel(max(level, logging.WARNING) if level > logging.DEBUG else level)


def _line(_: WrappedLogger, level: str, event: EventDict) -> bytes:
    """One line of JSON: what a reader looks for comes first, who speaks last."""
    first = {"ts": datetime.now(UTC), "level": level, "event": event.pop("event")}
    line = {**first, **event, **_identity}
    return orjson.dumps(line, default=repr, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)


class _Forward(logging.Handler):
    """Takes what libraries log through the standard library."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info
        )


def _crash(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        structlog.get_logger().warning("process.interrupted")
    else:
        structlog.get_logger().critical("process.crashed", exc_info=(kind, error, traceback))
