"""Logging: structlog on stderr, as lines for a person or as JSON; the standard library's loggers join in."""

import logging
import os
import sys
from typing import Any

import structlog

from squib.cli.output import clean
from squib.settings import Settings

_OF_LINES = frozenset({"exception", "stack"})


def configure(settings: Settings) -> None:
    """Set it up for this process, once, before anything logs."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    terminal = sys.stderr.isatty()
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not terminal)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso" if as_json else "%H:%M:%S", utc=as_json),
    ]
    last: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if as_json:
        last += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        colours = terminal and not os.environ.get("NO_COLOR")
        last.append(_harmless)
        last.append(structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback))
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))  # of libraries, only what went wrong
    logging.getLogger("squib").setLevel(level)


def _harmless(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """What strangers and sandboxes say ends up here too: it must not act on a terminal, nor forge lines."""
    return {
        name: clean(value, lines=name in _OF_LINES) if isinstance(value, str) else value
        for name, value in event.items()
    }
