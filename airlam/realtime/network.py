"""The fastest form of a network on this machine: several runtimes are made, checked, timed for a moment, and one stays.

Which runtime is the fastest differs between processors, and with the number of tokens. Of those that are installed
each computes the same values here (1e-4 of the largest). Their roundings differ, and a prediction can differ by 1e-4
through them: so a process times them once for each kind of network, and all its streams give the same values. With
``precision="bfloat16"`` others may take part that round: measured with airlam-tiny, NMSE changes by less than 0.001 dB,
the mean of stated variances by up to 8 %.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from airlam.errors import CheckpointError
from airlam.models.exported import INPUTS, OUTPUTS
from airlam.models.spectral_model import SpectralModel
from airlam.models.tokens import NUM_SCALARS, START_SLOTS
from airlam.realtime.runtimes import ROUNDED_WAYS, WAYS, Arrays, Run, Way, by_model

# Of an output's largest value. Measured: 1e-5 for the logarithm of a variance, 2e-6 for the others; in bfloat16, for
# inputs at random, 0.12 and 0.02: there the check finds a wrong graph, not rounding.
TOLERANCES = {"float32": 1e-4, "bfloat16": 0.3}
TRIAL_SECONDS = 0.05
MODEL = "model"  # the name of the model's own network as an engine

_timed: dict[tuple, dict[str, float]] = {}  # what trials of this process have found
_lock = threading.Lock()


@dataclass
class FastNetwork:
    """A network for one link, called with NumPy arrays. It serves one thread at a time.

    Attributes:
        engine: the runtime that won: ``torch``, ``torch-onednn``, ``onnxruntime``, ``openvino``,
            ``openvino-bfloat16``, or ``model`` for the model's own network.
        tokens: of every call.
        seconds: shortest call of each runtime in the trial, which was that of the first network of its kind.
        left_out: why a runtime took no part.
    """

    engine: str
    tokens: int
    seconds: dict[str, float] = field(repr=False)
    left_out: dict[str, str] = field(repr=False)
    inputs: Arrays = field(repr=False)
    run: Run = field(repr=False)

    def __call__(self, features: np.ndarray, log_periodogram: np.ndarray, noise: np.ndarray) -> Arrays:
        """Compute.

        Args:
            features: ``[1, token, feature]``, real; this and the others as in :class:`airlam.models.Tokens`.
            log_periodogram: ``[1, token, grid]``.
            noise: ``[1, token]``.

        Returns:
            ``power [1, token, grid]``, ``noise_variance [1, token]``, ``gate [1, token, 1]`` and, with error variances,
            ``log_scale [1, token, 1]``, ``float32``. The next call writes to the same memory.

        Raises:
            ValueError: other shapes.
        """
        for name, own, given in zip(INPUTS, self.inputs, (features, log_periodogram, noise), strict=True):
            if own.shape != given.shape:
                raise ValueError(f"{name} must be of shape {own.shape}, got {given.shape}")
            np.copyto(own, given)
        return self.run()


def fastest_network(
    model: SpectralModel,
    tokens: int = 80,
    threads: int = 1,
    *,
    precision: str = "float32",
    ways: Mapping[str, Way] | None = None,
) -> FastNetwork:
    """The network of ``model`` in the runtime that takes the least time here.

    Args:
        model: on the CPU, without sensors. Later changes of its weights do not count.
        tokens: of every call.
        threads: of ONNX Runtime and OpenVINO; torch keeps its own number.
        precision: ``"float32"``; ``"bfloat16"`` lets runtimes take part that round to it.
        ways: what may be tried, and timed anew; None: all ways of that precision.

    Raises:
        ValueError: tokens, threads or a precision that mean nothing.
        CheckpointError: a model with sensors, or one that is not on the CPU.

    Example:
        >>> from airlam.models import AirlamConfig, AirlamModel
        >>> model = AirlamModel(AirlamConfig(num_tokens=8, num_groups=0))
        >>> network = fastest_network(model.eval(), tokens=8)
        >>> power, noise_variance, gate = network(*(np.ones_like(x) for x in network.inputs))
        >>> power.shape, network.engine in ("torch", "torch-onednn", "onnxruntime", "openvino")
        ((1, 8, 129), True)
    """
    for name, value in (("tokens", tokens), ("threads", threads)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
    if precision not in TOLERANCES:
        raise ValueError(f"precision must be one of {', '.join(TOLERANCES)}, got {precision!r}")
    kind = (repr(model.config), tokens, threads, precision) if ways is None else None
    if ways is None:
        ways = WAYS | (ROUNDED_WAYS if precision == "bfloat16" else {})
    if model.config.context:
        raise CheckpointError(f"a model with sensors ({', '.join(model.config.context)}) has no fast network")
    device = getattr(model, "device", None)  # an exported graph has none
    if device is not None and device.type != "cpu":
        raise CheckpointError(f"the model is on {device}, but fast networks run on the CPU: model.to('cpu')")
    inputs = _example(model, tokens)
    expected = tuple(x.copy() for x in by_model(model, inputs, threads)())
    runs: dict[str, Run] = {}
    left_out: dict[str, str] = {}
    for name, way in ways.items():
        try:
            run = way(model, inputs, threads)
            reason = _difference(run(), expected, TOLERANCES[precision if name in ROUNDED_WAYS else "float32"])
        except ModuleNotFoundError as error:
            reason = f"{error.name} is not installed"
        except Exception as error:  # of any kind: each runtime has its own, and none may stop a prediction
            reason = " ".join(str(error).split())[:300] or type(error).__name__
        if reason:
            left_out[name] = reason
        else:
            runs[name] = run
    seconds = _seconds(kind, runs) if runs else {}
    engine = min(seconds, key=lambda name: seconds[name], default=MODEL)
    run = runs[engine] if seconds else by_model(model, inputs, threads)
    return FastNetwork(engine, tokens, seconds, left_out, inputs, run)


def _example(model: SpectralModel, tokens: int) -> Arrays:
    """Inputs of the size that features, logarithms and noise of links have."""
    config, random = model.config, np.random.default_rng(0)
    width = 2 * config.max_history + 2 * START_SLOTS + config.doppler_grid + NUM_SCALARS
    features = random.standard_normal((1, tokens, width), np.float32)
    log_periodogram = random.standard_normal((1, tokens, config.doppler_grid), np.float32)
    return features, log_periodogram, random.uniform(0.01, 1, (1, tokens)).astype(np.float32)


def _difference(found: Arrays, expected: Arrays, tolerance: float) -> str:
    """Empty, or what is wrong with ``found``."""
    if [x.shape for x in found] != [x.shape for x in expected]:
        return "its outputs have other shapes than the model's"
    for name, a, b in zip(OUTPUTS, found, expected, strict=False):
        error = float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-20))
        if not error <= tolerance:
            return f"its {name} is off by {error:.1e}, over {tolerance:g}"
    return ""


def _seconds(kind: tuple | None, runs: dict[str, Run]) -> dict[str, float]:
    """Of a trial, or of the one that this process made before for this ``kind`` of network and the same runtimes."""
    if kind is None:
        return _trial(runs)
    with _lock:
        return dict(_timed[key] if (key := (kind, *runs)) in _timed else _timed.setdefault(key, _trial(runs)))


def _trial(runs: dict[str, Run]) -> dict[str, float]:
    """Seconds of the shortest call of each, in turn: a busy moment of the machine meets all of them."""
    best = dict.fromkeys(runs, float("inf"))
    for run in runs.values():
        run()  # a second call: some runtimes plan their memory in the first
    end = time.perf_counter() + TRIAL_SECONDS
    while True:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - start)
        if time.perf_counter() >= end:
            return best
