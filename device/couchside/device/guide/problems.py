"""What a guide or catalogue reader says about the parts that it could not take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One part of a file that is wrong; reading goes on unless ``truncated``."""

    where: str
    """Place in the file, such as "line 12, programme on bbc1.uk at 20260810003000"."""
    what: str
    """What is wrong there."""
    remedy: str
    """What the sender of the file, or the person who loads it, can do."""
    truncated: bool = False
    """Nothing after this place was read: what came before counts, the caller may refuse it."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.remedy}"
