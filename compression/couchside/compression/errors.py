"""The errors of the lab."""

from __future__ import annotations


class CompressionError(Exception):
    """Anything the compression package raises on purpose; says what to do next."""


class RecipeError(CompressionError):
    """A recipe is missing, malformed or out of range."""


class DataError(CompressionError):
    """Ratings or titles can't be read, or there are too few to learn from."""


class ParityError(CompressionError):
    """An exported graph does not compute what its source computes."""


class LineageError(CompressionError):
    """The result of a Round did not grow on the folder that it is to refresh."""


class GateError(CompressionError):
    """What a Round gave would make the Bundle worse, or can't be what it says."""
