"""What a test registers is forgotten after it."""

import pytest

from airlam.methods import registry


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch):
    monkeypatch.setattr(registry, "_OWN", {})
