"""What the command says on stderr: text for people, or one line of key=value or JSON per event for programs."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

import rich_click as click

from varfm.errors import printable

STYLES = ("text", "key-value", "json")

_PLAIN_VALUE = re.compile(r"[^\s\"'=\\]+")

Value = str | int | float


class StderrLog(logging.Handler):
    """Takes the warnings of the library and the events of the command; stderr is looked up each time.

    Attributes:
        style: One of `STYLES`.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.style = "text"

    def emit(self, record: logging.LogRecord) -> None:
        """Write a warning of the library."""
        level, message = record.levelname.lower(), record.getMessage()
        self.tell(level, "log", f"varfm: {level}: {message}", message=message)

    def tell(self, level: str, event: str, text: str, **facts: Value) -> None:
        """Write one event.

        Args:
            level: `info`, `warning` or `error`.
            event: Its name.
            text: What people read.
            facts: What programs read.
        """
        if self.style == "text":
            # It may quote the input: no escape sequence of a VCF may reach the terminal.
            click.echo("\n".join(map(printable, text.split("\n"))), err=True)
            return
        about: dict[str, Value] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level}
        about |= {"event": event, **facts}
        line = json.dumps(about) if self.style == "json" else " ".join(f"{k}={_value(v)}" for k, v in about.items())
        click.echo(line, err=True)


def stderr_log() -> StderrLog:
    """Give the log of this run."""
    handlers = [handler for handler in logging.getLogger("varfm").handlers if isinstance(handler, StderrLog)]
    return handlers[0] if handlers else start_log()


def start_log() -> StderrLog:
    """Begin the log of a run, in place of that of an earlier run in this process."""
    logger = logging.getLogger("varfm")
    for handler in [handler for handler in logger.handlers if isinstance(handler, StderrLog)]:
        logger.removeHandler(handler)
    log = StderrLog()
    logger.addHandler(log)
    return log


def choose_style(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Take the value of `--log-format` before anything is done."""
    stderr_log().style = value
    return value


def _value(value: Value) -> str:
    text = str(value)
    return text if _PLAIN_VALUE.fullmatch(text) and text.isprintable() else json.dumps(text)
