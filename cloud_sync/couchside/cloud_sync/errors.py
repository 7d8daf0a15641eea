"""The errors of delivery. Each says what is wrong, where, and what happens or what to do next."""

from __future__ import annotations


class CloudSyncError(Exception):
    """Anything the cloud_sync package raises on purpose."""


class BrokerError(CloudSyncError):
    """No broker answers, or it refused us."""


class SigningError(CloudSyncError):
    """A key is missing or unreadable, or a repository can't be signed as asked."""


class RefusedError(CloudSyncError):
    """A release must not be installed; what is installed keeps running."""


class UntrustedError(RefusedError):
    """Metadata is malformed, not signed by enough trusted keys, or does not fit together."""


class RollbackError(RefusedError):
    """Metadata or a Bundle is older than what this TV has already accepted."""


class ExpiredError(RefusedError):
    """Metadata is past its signed date: somebody may be holding back a newer release."""


class DamagedBlockError(CloudSyncError):
    """A block is missing or is not what its name says; ``block`` names it; fetch it again."""

    def __init__(self, block: str, what: str) -> None:
        super().__init__(f"block {block}: {what}; fetch it again")
        self.block = block


class SpaceError(CloudSyncError):
    """There is not enough room on the disk; free some, the next attempt goes on from here."""


class RoundError(CloudSyncError):
    """A Round can't be opened, summed or closed as asked; the message says what to do."""


class LetterError(RoundError):
    """A letter between aggregator and helper is oversize, malformed or signed by somebody else."""
