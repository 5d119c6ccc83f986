"""Sionna, imported late and kept from disturbing the caller's random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def import_sionna():
    """``sionna.phy``. The first import takes 3 to 9 s and reseeds torch's global generators; those are put back."""
    with torch.random.fork_rng():
        import sionna.phy
    return sionna.phy


@contextmanager
def sionna_stream(seed: int) -> Iterator[None]:
    """Inside, Sionna draws from a stream that ``seed`` fixes; afterwards its stream goes on where it was.

    The stream equals the one after ``sionna.phy.config.seed = seed`` (on the CPU), but neither Sionna's seed nor
    torch's global generator is touched.
    """
    generator = import_sionna().config.torch_rng("cpu")
    state = generator.get_state()
    generator.manual_seed(seed)
    try:
        with torch.no_grad():
            yield
    finally:
        generator.set_state(state)
