"""Sionna, imported late and kept from disturbing the caller's random numbers."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def import_sionna():
    """``sionna.phy``. The first import takes 3 to 9 s and reseeds torch's global generators; those are put back."""
    with torch.random.fork_rng(), _without_ray_tracer():
        import sionna.phy
    return sionna.phy


@contextmanager
def _without_ray_tracer() -> Iterator[None]:
    """Inside, importing ``sionna`` does not start its ray tracer.

    sionna-rt and sionna-no-rt both bring ``sionna/__init__.py``. The former's imports the ray tracer at once, which
    fails without LLVM and would take all other channels with it, so an empty module stands in for it meanwhile.
    """
    if "sionna" in sys.modules or "sionna.rt" in sys.modules:
        yield
        return
    stand_in = sys.modules["sionna.rt"] = types.ModuleType("sionna.rt")
    try:
        yield
    finally:
        del sys.modules["sionna.rt"]
        # not getattr: sionna-no-rt's __init__ would import the real one
        package = vars(sys.modules["sionna"]) if "sionna" in sys.modules else {}
        if package.get("rt") is stand_in:
            del package["rt"]


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
