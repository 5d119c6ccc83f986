"""``airlam bench-serve``: the parts in order, each kept when it is finished, and the report."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from airlam.io import read_finished, recipe_hash, write_json
from airlam.serving.benchmark.config import ServingArguments


class ServingBenchmark(ServingArguments):
    """A server under load: what its path costs over the model in process, what it carries, and what it survives.

    A finished part is kept; a second call does what is missing. Nothing else should run beside it. Arguments:
    :class:`~airlam.serving.benchmark.config.ServingArguments`.

    Example:
        >>> ServingBenchmark(quick=True).load.calls
        5
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._set(config=self.plain())  # as they were given, for results.json
        if self.quick:
            self._set(**self.reduced())

    def run(self, out: str | Path) -> Path:
        """Run what is not finished; write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Returns:
            The path of ``report.html``.
        """
        from airlam.evaluation.report.html import publish
        from airlam.serving.benchmark.figures import SECTIONS
        from airlam.serving.benchmark.results import build_results
        from airlam.serving.cluster.start import need_ray

        need_ray()
        out = Path(out)
        found = self.parts_of(out)
        results = build_results(self, found)
        return publish(results, out, threads=self.threads, sections=SECTIONS)

    def parts_of(self, out: Path) -> dict[str, dict[str, Any]]:
        """What every part measured: found in ``out``, or measured now and left there."""
        from rich.console import Console

        from airlam.evaluation.runner import narrator
        from airlam.serving.benchmark import faults, parts, shared

        measures: dict[str, Callable[[parts.Bench], dict[str, Any]]] = {
            "cold": parts.cold,
            "path": parts.path,
            "batching": parts.batching,
            "load": parts.load,
            "shared": shared.shared,
            "sessions": faults.sessions,
            "soak": parts.soak,
        }
        plain = self.plain()
        depends = recipe_hash({name: value for name, value in plain.items() if name not in ("parts", "title")})
        say, bench = narrator(Console(stderr=True)), None
        found: dict[str, dict[str, Any]] = {}
        try:
            for name in measures:
                path = out / "parts" / f"{name}-{depends}.json"
                record: dict[str, Any] | None = read_finished(path)
                if record is None and name in self.parts:
                    say(f"measuring: {name}")
                    bench = bench or parts.Bench(self)
                    record = {"date": time.strftime("%Y-%m-%d"), "found": measures[name](bench)}
                    write_json(path, record)
                if record is not None:
                    found[name] = record["found"]
        finally:
            if bench is not None:
                bench.close()
        return found
