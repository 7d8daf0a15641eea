"""What couchside-install answers, and couchside-sync acts on: one line of JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["current", "wanted", "ready", "installed", "damaged", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the newest release stands on this TV."""

    state: State
    """current: nothing to do. wanted: fetch blocks. ready: apply. installed: just done. damaged:
    blocks on the disk went bad. refused: it must not be installed. failed: try again later."""
    why: str = ""
    """For people, where something is wrong."""
    version: int = 0
    bundle_id: str = ""
    flavour: str = ""
    blocks: tuple[str, ...] = ()
    """wanted: those to fetch. damaged: those to drop."""
    total_blocks: int = 0
    """Of the whole Bundle, as far as its block list is here."""
    bundle_bytes: int = 0
    golden_peak_bytes: int = 0
    """installed: peak memory of the process that ran the golden vectors."""
