"""The errors that a user can mend. The command line prints each of them as one line."""

from __future__ import annotations


class AirlamError(Exception):
    """Base class of the errors below."""


class RecipeError(AirlamError, ValueError):
    """A recipe (YAML, config) names something that does not exist or is out of bounds."""


class StoreError(AirlamError, OSError):
    """A data store or a results file is foreign, truncated, corrupt, incomplete, locked, or cannot be written."""


class CheckpointError(AirlamError, ValueError):
    """A checkpoint is missing, corrupt, of a foreign kind, or not safe to load."""
