"""The latency benchmark: a set-up, what is timed in it, a table, and a file."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from airlam.channels import load_channel
from airlam.csi import measure
from airlam.errors import CheckpointError
from airlam.evaluation.engine.timing import BUSY
from airlam.evaluation.latency.reference import REFERENCE, reference_predict
from airlam.evaluation.latency.streams import STREAMS, Setting
from airlam.evaluation.latency.timing import Call, on_one_core, time_in_turn
from airlam.evaluation.rows import environment
from airlam.io import write_json
from airlam.loading import load_predictor
from airlam.metrics import cpu_threads
from airlam.recipes import nearest
from airlam.recipes.checks import check_number

SCHEMA = "airlam-latency/1"
METHODS = ("hold", "ar", "eigen-ar", "airlam-tiny", "paths", "airlam-paths")
RUNTIMES = ("numba", "onnxruntime", "openvino", "scipy")  # versions that decide over latency, beside environment()'s
STREAMED = 512  # slots behind the history, which streams are fed with; then they begin again


@dataclass(frozen=True)
class LatencyBenchmark:
    """Which predictions are timed, and how long.

    Args:
        channel: recipe of the channel.
        csi_snr_db: of the measured history [dB].
        history, num_future: slots of a prediction's input and output.
        links: of one call.
        rounds, seconds: turns of each method, and about how long a turn lasts [s].
        core: that everything runs on; None: the last one that this process may use.

    Raises:
        RecipeError: a value out of bounds.
    """

    channel: Any = "uma_nlos"
    csi_snr_db: float = 20.0
    history: int = 16
    num_future: int = 4
    links: int = 1
    rounds: int = 20
    seconds: float = 0.1
    core: int | None = None

    def __post_init__(self) -> None:
        check_number("csi_snr_db", self.csi_snr_db, -100, 200, unit="dB")
        for name, low, high in (("history", 2, 512), ("num_future", 1, 512), ("links", 1, 4096), ("rounds", 1, 1000)):
            check_number(name, getattr(self, name), low, high, integer=True)
        check_number("seconds", self.seconds, 0, 3600, unit="s")
        if self.core is not None:
            check_number("core", self.core, 0, math.inf, integer=True)

    def run(
        self,
        methods: Sequence[str] = (*METHODS, *STREAMS),
        streams: Mapping[str, Callable[[Setting], Call]] = STREAMS,
        report: Callable[[str], None] = lambda label: None,
    ) -> dict[str, Any]:
        """Time ``methods``: names that :func:`airlam.load_predictor` takes, and labels of ``streams``.

        Args:
            report: is told what is timed at the moment.

        Returns:
            Plain data, as it stands in the file.

        Raises:
            CheckpointError: an unknown name.
        """
        with on_one_core(self.core) as core, cpu_threads(1), torch.inference_mode():
            made = {name: _maker(name, streams) for name in dict.fromkeys(methods)}  # wrong names before any work
            setting = self.setting()
            calls = {REFERENCE: _reference(setting), **{name: make(setting) for name, make in made.items()}}
            found = time_in_turn(calls, REFERENCE, rounds=self.rounds, seconds=self.seconds, report=report)
        return {
            "schema": SCHEMA,
            "environment": _environment(),
            "setting": {**asdict(self), "core": core, "shape": list(setting.h_past.shape)},
            "busy": any(timing.busy for timing in found.values()),
            "methods": [
                {"method": name, **asdict(timing), "busy": timing.busy, "engine": _engine(calls[name])}
                for name, timing in found.items()
            ],
        }

    def setting(self) -> Setting:
        """Links of the channel, measured."""
        channel = load_channel(self.channel)
        drop = channel.links_per_drop
        batch = channel.sample(math.ceil(self.links / drop) * drop, self.history + STREAMED, seed=0)
        h = measure(batch.h[: self.links], self.csi_snr_db, torch.Generator().manual_seed(0))
        return Setting(h, self.history, self.num_future, batch.port_shape)


def write(path: str | Path, results: Mapping[str, Any]) -> Path:
    """The results as JSON, atomically."""
    return write_json(path, results)


def table(results: Mapping[str, Any]) -> Any:
    """The results as a table of rich."""
    from rich.markup import escape
    from rich.table import Table

    links, slots, tones, rx_ants, ports = results["setting"]["shape"]
    what = f"{links} link{'s' * (links > 1)} a call, {ports} ports x {rx_ants} x {tones} tones"
    future = results["setting"]["num_future"]
    made = Table(title=f"latency, measured: {what}, {slots} -> {future} slots, 1 thread", title_justify="left")
    names = [row["method"] for row in results["methods"]]
    made.add_column("method", overflow="fold", min_width=max(map(len, names)))
    for head in ("p50 [ms]", "p99 [ms]", f"p50 / {REFERENCE}", "cpu time, ratio", "of a core", ""):
        made.add_column(head, justify="right")
    for row in results["methods"]:
        numbers = (f"{row['p50_ms']:.3f}", f"{row['p99_ms']:.3f}", f"{row['ratio']:.2f}", f"{row['cpu_ratio']:.2f}")
        marks = [row["engine"]] * bool(row["engine"]) + [BUSY] * row["busy"]
        share = f"{100 * row['cpu_share']:.0f} %"
        made.add_row(escape(row["method"]), *numbers, share, ", ".join(marks))
    return made


def busy_line(results: Mapping[str, Any]) -> str:
    """What to say where other programs used the core; otherwise nothing."""
    names = [row["method"] for row in results["methods"] if row["busy"]]
    if not names:
        return ""
    return (
        f"{BUSY}: other programs used the core while {', '.join(names)} ran; their times are too high. "
        "Repeat them, or read the ratios of processor time"
    )


def _maker(name: str, streams: Mapping[str, Callable[[Setting], Call]]) -> Callable[[Setting], Call]:
    """How the call of a method or stream is made."""
    if name in streams:
        return streams[name]
    try:
        predictor = load_predictor(name)
    except CheckpointError as error:
        if ":" in name and (hint := nearest(name, streams)):
            raise CheckpointError(f"no predictor or stream {name!r}{hint}") from error
        raise

    def make(setting: Setting) -> Call:
        h, future, shape = setting.h_past.clone(), setting.num_future, setting.port_shape
        return lambda: predictor.predict(h, future, port_shape=shape)

    return make


def _reference(setting: Setting) -> Call:
    predict, h = reference_predict(), setting.h_past.clone()
    return lambda: predict(h, setting.num_future, setting.port_shape)


def _engine(call: Any) -> str:
    """The runtime behind a call, where it has several to choose from."""
    return getattr(getattr(call, "func", call), "engine", "")


def _environment() -> dict[str, Any]:
    found = environment(threads=1)
    for package in RUNTIMES:
        try:
            found["versions"][package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
