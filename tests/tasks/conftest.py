"""The model that the tasks of the backbone train here."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def tiny_model(tiny_backbone) -> dict:
    """Arguments of a small :class:`airlam.models.AirlamConfig`."""
    return {"num_tokens": 24, "num_groups": 2, "backbone": tiny_backbone}
