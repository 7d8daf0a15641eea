"""What a runtime says of itself while a model is opened: was an engine built, and how long."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNTIMES = "couchside.device.runtime"
"""Their loggers begin like this."""


class _Keeper(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def overhear() -> Iterator[list[str]]:
    """Collect what runtimes log while the block runs, once each message."""
    logger, keeper = logging.getLogger(RUNTIMES), _Keeper()
    level = logger.level
    logger.addHandler(keeper)
    logger.setLevel(logging.INFO)
    said: list[str] = []
    try:
        yield said
    finally:
        logger.removeHandler(keeper)
        logger.setLevel(level)
        said += dict.fromkeys(keeper.said)
