"""Beam management: which beams of a DFT codebook to use next, from sweeps that measure some of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from airlam.baselines import TrainedLinear
from airlam.channels import LinkBatch
from airlam.csi import beam_power, dft_codebook, measure_beams, sweep_schedule
from airlam.evaluation.benchmarks.beam_management.judging import (
    METRICS,
    TOP,
    judge,
    mean_gain,
    mean_value,
    percent,
    points,
    share,
    strongest,
)
from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.fingerprint import combined, outside
from airlam.evaluation.engine.measure import run_cells
from airlam.evaluation.engine.summarise import SE, new_row
from airlam.evaluation.engine.timing import latency_fields, timed_figure
from airlam.evaluation.report.html import publish
from airlam.evaluation.report.style import look, order
from airlam.evaluation.report.verdicts import verdict
from airlam.evaluation.rows import Figure, Results, Row
from airlam.interfaces import RecipeError
from airlam.methods import describe, find, is_own, names, own_method
from airlam.metrics import cpu_threads, measure_latency
from airlam.recipes import find_checkpoint

METHODS = ("last-best", "extrapolation", "trained-linear", "softmax", "{model}:start", "{model}", "sweep")
STRONGEST = "strongest"  # as the bar: the classical method that is best over the headline cells
TRACKS_AT_ONCE = 512


class BeamManagementBenchmark:
    """Beam prediction on tracks against classical trackers and against a full sweep.

    Every sweep of the history measures ``beams_per_sweep`` beams of the codebook in a random order, round and round.
    A method names beams for each of the ``horizon`` sweeps to come. Judged are: how often the best beam is among its
    first 1, 3 and 5; and the spectral efficiency with its first beam, or, after the first 3 or 5 have been measured
    once more, with the strongest of those, over that with the best beam.

    Args:
        model: the learned method: a shipped checkpoint's name or a folder.
        controls: further learned ones: names of their rows -> checkpoints.
        methods: among ``last-best`` (an average over each beam's measurements; its memory is tuned), ``extrapolation``
            (a line through each beam's log power; window and ridge tuned), ``trained-linear`` (ridge regression of
            every beam's log power on all measurements) and ``softmax`` (multinomial logistic regression of the best
            beam on all measurements), both trained in every cell on other drops of the same scenario and speed, their
            ridge tuned on a quarter of these drops; ``{model}:start``, ``{model}``, and ``sweep``: all beams measured
            at the very time.
        bar: what gains in tables are relative to: a method, or ``strongest``: the classical method of the highest
            mean top-1 accuracy over the headline cells. The headline itself compares with the strongest classical
            method by each figure, whatever the bar.
        scenarios: recipes with ``tracks: true``. speeds_kmh: of all users.
        snr_db: per antenna port and subcarrier, of measurements and of data, over the mean of the history.
        beams_per_sweep: of the headline cells. history, horizon: sweeps.
        num_links: tracks judged in a headline cell. num_tune: tracks of other drops of the cell's scenario and speed,
            on which classical methods are tuned and trained.
        links_per_drop: tracks in one drop. side_links: tracks judged in each cell beside the headline.
        sweep_beams, sweep_snr_db, sweep_periods_ms: further cells of the first scenario, at ``sweep_speed_kmh``.
        arrays: label -> keys that replace those of the first recipe.
        channel_overrides, seed, threads, quick, title: as in the other benchmarks.

    Raises:
        RecipeError: an unknown method, or sizes that do not fit.

    Example:
        >>> BeamManagementBenchmark().bar
        'strongest'
    """

    def __init__(
        self,
        model: str = "airlam-beams",
        controls: Mapping[str, str] | None = None,
        methods: Sequence[str] = METHODS,
        bar: str = STRONGEST,
        scenarios: Sequence[str] = ("umi_tracks_28ghz", "uma_tracks_28ghz"),
        speeds_kmh: Sequence[float] = (30.0, 60.0, 90.0),
        snr_db: float = 0.0,
        beams_per_sweep: int = 16,
        history: int = 8,
        horizon: int = 4,
        num_links: int = 512,
        num_tune: int = 4096,
        links_per_drop: int = 8,
        side_links: int = 256,
        sweep_beams: Sequence[int] = (4, 8, 32, 64),
        sweep_snr_db: Sequence[float] = (-10.0, -5.0, 5.0, 10.0),
        sweep_periods_ms: Sequence[float] = (10.0, 20.0, 80.0),
        sweep_speed_kmh: float = 60.0,
        arrays: Mapping[str, dict[str, Any]] | None = None,
        channel_overrides: dict[str, Any] | None = None,
        seed: int = 7,
        threads: int = 1,
        quick: bool = False,
        title: str = "Beam management at 28 GHz",
    ):
        self.config = {name: describe(value) for name, value in locals().items() if name != "self"}
        if quick:
            scenarios, speeds_kmh, num_links, num_tune, side_links = scenarios[:1], speeds_kmh[:1], 16, 64, 16
            sweep_beams, sweep_snr_db, sweep_periods_ms, arrays = sweep_beams[:1], sweep_snr_db[:1], (), {}
        self.model, self.label = str(model), Path(str(model)).name
        self.controls = {str(name): str(path) for name, path in (controls or {}).items()}
        self.scenarios, self.speeds_kmh, self.snr_db = list(scenarios), [float(v) for v in speeds_kmh], float(snr_db)
        self.beams_per_sweep, self.history, self.horizon = beams_per_sweep, history, horizon
        self.num_links, self.num_tune, self.side_links = num_links, num_tune, side_links
        self.links_per_drop, self.sweep_beams = links_per_drop, list(sweep_beams)
        self.sweep_snr_db = [float(snr) for snr in sweep_snr_db]
        self.sweep_periods_ms, self.sweep_speed_kmh = [float(t) for t in sweep_periods_ms], float(sweep_speed_kmh)
        self.arrays, self.channel_overrides = dict(arrays or {}), dict(channel_overrides or {})
        self.seed, self.threads, self.title = seed, threads, title
        named = [
            own_method(m, "beam-tracker", "methods").name if is_own(m) else str(m).replace("{model}", self.label)
            for m in methods
        ]
        classical = names("beam-tracker", "classical", built=True)
        known = [*classical, f"{self.label}:start", self.label, "sweep"]
        for name in named:
            if name not in known:
                raise RecipeError(f"no method {name!r}; valid: {', '.join(known)}")
        if self.label in named:
            place = named.index(self.label)
            named[place:place] = list(self.controls)
        self.methods, self.bar = list(dict.fromkeys(named)), str(bar).replace("{model}", self.label)
        self.classics = [name for name in self.methods if name in classical]
        if self.bar == STRONGEST and not self.classics:
            raise RecipeError(f"bar is {STRONGEST}, but no classical method is run: add one of {', '.join(classical)}")
        if self.bar != STRONGEST and self.bar not in self.methods:
            raise RecipeError(f"bar is {self.bar!r}, which is not among the methods {', '.join(self.methods)}; add it")
        self._check()

    def _check(self) -> None:
        if not self.scenarios or not self.speeds_kmh:
            raise RecipeError("scenarios and speeds_kmh must not be empty: they are the cells")
        for name in ("history", "horizon", "threads", "links_per_drop"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for value in (self.snr_db, *self.sweep_snr_db, *self.sweep_periods_ms, *self.speeds_kmh):
            if not math.isfinite(value):
                raise RecipeError(f"SNRs, periods and speeds must be finite numbers, got {value}")
        for count in (self.beams_per_sweep, *self.sweep_beams):
            if not isinstance(count, int) or count < 1:
                raise RecipeError(f"beams_per_sweep or sweep_beams is {count!r}, but must be a whole number from 1 on")
        for name in ("num_links", "num_tune", "side_links"):
            if getattr(self, name) < 1 or getattr(self, name) % self.links_per_drop:
                raise RecipeError(
                    f"{name} is {getattr(self, name)}, but must be a positive multiple of links_per_drop "
                    f"({self.links_per_drop}): no drop is ever split"
                )

    def cells(self) -> list[Cell]:
        """Every cell, the headline first."""
        from airlam.channels import load_channel

        def cell(data: str, speed: float, **fields: Any) -> Cell:
            overrides = {"speed_kmh": speed, **self.channel_overrides, **fields.pop("recipe", {})}
            recipe = load_channel(data).recipe
            if not recipe.get("tracks"):
                raise RecipeError(f"{data} has no tracks: beams would not move; name a recipe with tracks: true")
            recipe = load_channel({**recipe, **overrides, "links_per_drop": self.links_per_drop}).recipe
            panel, count = recipe["bs_panel"], fields.setdefault("num_pilots", self.beams_per_sweep)
            beams = panel["rows"] * panel["columns"] * (1 + (panel["polarisation"] == "dual"))
            if not 1 <= count <= beams:
                raise RecipeError(f"beams_per_sweep is {count}, but {data} has a codebook of {beams} beams")
            values: dict[str, Any] = dict(
                group="cell",
                data=data,
                recipe=recipe,
                speed_kmh=float(speed),
                csi_snr_db=self.snr_db,
                num_links=self.side_links,
                num_tune=self.num_tune,
                history=self.history,
                horizon=self.horizon,
                num_future=self.horizon,
                methods=tuple(self.methods),
                users=(),
                transmit_snr_db=(),
                headline_snr_db=self.snr_db,
                tone_step=1,
                seed=self.seed,
            )
            return Cell(**(values | fields))

        first, at, out = self.scenarios[0], self.sweep_speed_kmh, []
        for data in self.scenarios:
            for speed in self.speeds_kmh:
                timed = data == first and speed == self.speeds_kmh[0]
                out.append(cell(data, speed, num_links=self.num_links, headline=True, timed=timed))
        out += [cell(first, at, group="beams", num_pilots=n) for n in sorted({*self.sweep_beams, self.beams_per_sweep})]
        out += [cell(first, at, group="snr", csi_snr_db=snr) for snr in sorted({*self.sweep_snr_db, self.snr_db})]
        usual = 1e3 * load_channel(first).slot_duration
        for period in sorted({*self.sweep_periods_ms, usual}) if self.sweep_periods_ms else []:
            out.append(cell(first, at, group="period", recipe={"slot_duration": 1e-3 * period}))
        out += [cell(first, at, group="array", label=label, recipe=keys) for label, keys in self.arrays.items()]
        return out

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet; write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``."""
        from airlam.models import load_beams

        out = Path(out)
        with cpu_threads(self.threads):
            named = {self.label: self.model, **self.controls}
            models = {name: load_beams(find_checkpoint(path)) for name, path in named.items()}
            for name, made in models.items():
                if self.horizon > made.config.horizon:
                    raise RecipeError(
                        f"horizon is {self.horizon}, but {name} was trained for at most {made.config.horizon}"
                    )
            weights = combined([*models.values(), *outside(self.methods, "beam-tracker")])
            records = run_cells(
                self.cells(),
                partial(self._run_cell, models=models, tracks=Tracks()),
                lambda _: weights,
                out,
                lambda c: c.num_links + c.num_tune,
            )
        results = self.results(records)
        return publish(results, out, threads=self.threads)

    def _run_cell(self, cell: Cell, models: dict[str, Any], tracks: Tracks) -> dict[str, Any]:
        start = time.perf_counter()
        links, known = tracks.of(cell)
        codebook, noise = dft_codebook(links.port_shape), 10 ** (-cell.csi_snr_db / 10)
        generator = torch.Generator().manual_seed(cell.stream("sweeps"))
        measured = sweep_schedule(codebook.shape[1], cell.num_pilots, cell.history, generator)

        def parts(h: Tensor, of: Callable[..., Tensor], *args: Any) -> Tensor:
            return torch.cat([of(part, codebook, *args) for part in h.split(TRACKS_AT_ONCE)])

        seen = parts(links.h[:, : cell.history], measure_beams, noise, generator)
        future = parts(links.h[:, cell.history :], beam_power) / noise
        # every method measures its candidates with the same noise: that of a full sweep at that time
        again = parts(links.h[:, cell.history :], measure_beams, noise, generator)
        training = Training(
            measured,
            parts(known.h[:, : cell.history], measure_beams, noise, generator),
            parts(known.h[:, cell.history :], beam_power) / noise,
            known.drop,
        )
        record: dict[str, Any] = {
            "cell": asdict(cell),
            "drop": links.drop.tolist(),
            "beams": codebook.shape[1],
            "best": (1 + future.amax(-1)).log2().tolist(),
            "methods": {},
        }
        for name in cell.methods:
            before = time.perf_counter()
            if name == "sweep":
                entry: dict[str, Any] = {"settings": {}, "parameters": [0, 0]}
                scores = again
            else:
                method, settings, size = self._method(name, models, training, links.port_shape)
                entry = {"settings": settings, "parameters": [size, 0]}
                scores = torch.cat([method(part) for part in seen.split(64)])
                if cell.timed:
                    found = measure_latency(partial(method, seen[:1]), warmup=5, repeats=100, threads=1)
                    entry |= latency_fields(found)
            entry |= judge(scores, future, again)
            entry["seconds"] = round(time.perf_counter() - before, 3)
            record["methods"][name] = entry
        record["seconds"] = round(time.perf_counter() - start, 1)
        return record

    def _method(
        self, name: str, models: dict[str, Any], training: Training, port_shape: Any
    ) -> tuple[Callable[[Tensor], Tensor], dict[str, Any], int]:
        """``power -> scores``, what was tuned, and the number of parameters."""
        measured, horizon = training.measured, training.future.shape[1]
        if name in models or name == f"{self.label}:start":
            model = models[name.removesuffix(":start")]
            if name.endswith(":start"):
                return (lambda p: model.start.scores(p, measured, horizon)), {}, 0
            size = sum(p.numel() for p in model.parameters())
            return (lambda p: model.scores(p, measured, horizon, port_shape=port_shape)), {}, size
        method = find(name, "beam-tracker")
        if hasattr(method.load(), "fit"):
            made, settings = training.fit(name)
            return (lambda p: made.scores(p, measured, horizon)), settings, made.num_weights
        tried = [dict(zip(method.grid, values, strict=True)) for values in product(*method.grid.values())]
        options = [(method.build(**arguments), arguments) for arguments in tried]
        chosen, settings = min(options, key=lambda option: training.lost(option[0]))
        return (lambda p: chosen.scores(p, measured, horizon)), settings, 0

    def results(self, records: list[dict[str, Any]]) -> Results:
        """Rows, tables and headline."""
        results = Results(self.title, "beam_management", config=dict(self.config))
        main = [record for record in records if record["cell"]["headline"]]
        against = strongest(main, "top1", self.classics) if self.bar == STRONGEST else self.bar
        for record in records:
            drop, cell = torch.tensor(record["drop"]), record["cell"]
            best = torch.tensor(record["best"]).double()
            ahead = [round(1e3 * cell["recipe"]["slot_duration"] * (s + 1), 6) for s in range(best.shape[1])]
            bar = record["methods"][against]
            for method, entry in record["methods"].items():
                row = new_row(record, method, cell["group"])
                beams = record["beams"]
                row.settings |= {"beams": cell["num_pilots"], "label": cell["label"], "codebook": beams}
                row.settings["period_ms"] = 1e3 * cell["recipe"]["slot_duration"]
                for k in TOP:
                    hit, rate = (torch.tensor(entry[f"{what}_top{k}"]).double() for what in ("hit", "rate"))
                    row.figures[f"top{k}"] = statistics.mean_figure(hit.mean(1), drop, "1")
                    row.figures[f"se_top{k}"] = statistics.mean_figure(rate.mean(1), drop, SE)
                    row.figures[f"se_ratio_top{k}"] = share(rate.mean(1), best.mean(1), drop)
                    # over a full sweep every time; candidates are measured once more where there are several
                    swept = (cell["num_pilots"] + (k if k > 1 else 0)) if method != "sweep" else beams
                    row.settings[f"measurements_saved_top{k}"] = round(1 - swept / beams, 4)
                    if k == 1:
                        steps = [share(r, b, drop) for r, b in zip(rate.mT, best.mT, strict=True)]
                        row.figures["se_ratio_steps"] = statistics.join(steps, ahead, "time since the last sweep [ms]")
                    if method != against:
                        other_hit, other = (torch.tensor(bar[f"{what}_top{k}"]).double() for what in ("hit", "rate"))
                        row.figures[f"top{k}_gain"] = statistics.gain(hit.mean(1), other_hit.mean(1), drop, "1")
                        row.figures[f"se_ratio_top{k}_gain"] = share((rate - other).mean(1), best.mean(1), drop)
                for name in ("latency_p50_ms", "latency_p99_ms"):
                    if name in entry:
                        row.figures[name] = timed_figure(entry, name, "ms")
                results.rows.append(row)
        results.recipes = {record["cell"]["data"]: record["cell"]["recipe"] for record in records}
        results.extras = {
            "focus": self.label,
            "bar": against,
            "tables": self._tables(results, main, against),
            "compared": self._compared(records[0]),
        }
        results.headline = self._headline(main)
        results.notes = [
            "Measured: computed on simulated channels, or timed, in this run.",
            "Intervals: 95 %, bootstrap over drops; gains are paired: the same tracks, sweeps and noise.",
            "The best beam is that of the highest true power, mean over subcarriers; SE is that of the mean power.",
            "A full sweep measures every beam at the very time, and chooses by what it measures.",
            "Which classical method is the strongest is seen on the judged tracks themselves, for each figure of the "
            "headline: a choice that can only favour the classical side.",
        ]
        return results

    def _headline(self, main: list[dict[str, Any]]) -> str:
        """The learned method against the strongest classical one by each figure, means over the headline cells."""
        focus, words = self.label if self.label in self.methods else self.methods[0], []
        for metric, what in (("top1", "top-1 accuracy"), ("se_ratio_top1", "SE over that of the best beam")):
            other = strongest(main, metric, self.classics) if self.classics else self.bar
            own, theirs = (mean_value(main, metric, m).number for m in (focus, other))
            gain = mean_gain(main, metric, focus, other)
            low, high = gain.ends
            words.append(
                f"{what} {100 * own:.1f} % against {100 * theirs:.1f} % of {look(other).label} "
                f"({100 * gain.number:+.1f}, 95 % interval {100 * low:+.1f} to {100 * high:+.1f}: {verdict(gain)})"
            )
        links, drops = (sum(n(record["drop"]) for record in main) for n in (len, lambda drop: len(set(drop))))
        return (
            f"{look(focus).label} against the strongest classical method, {self.beams_per_sweep} of "
            f"{main[0]['beams']} beams measured in a sweep, mean of {len(main)} cells with {links} tracks from {drops} "
            "drops: " + "; ".join(words) + "."
        )

    def _tables(self, results: Results, main: list[dict[str, Any]], bar: str) -> list[dict[str, Any]]:
        """Headline cells, mean gains, and one table for each sweep."""
        out = []
        cells = results.select(group="cell")
        methods = order([row.method for row in cells])
        keys = list(dict.fromkeys((row.data, row.speed_kmh) for row in cells))
        for name, title in (
            ("top1", "Top-1 accuracy [%]"),
            ("top3", "Top-3 accuracy [%]"),
            ("top5", "Top-5 accuracy [%]"),
            ("se_ratio_top1", "SE of the first beam over the best [%]"),
            ("se_ratio_top3", "SE after measuring the first three, over the best [%]"),
            ("se_ratio_top5", "SE after measuring the first five, over the best [%]"),
        ):
            lines = []
            for method in methods:
                mine = {(row.data, row.speed_kmh): row for row in cells if row.method == method}
                gain = mean_gain(main, name, method, bar) if method != bar else None
                mean = percent(mean_value(main, name, method), gain)
                saved = next(iter(mine.values())).settings[f"measurements_saved_top{name[-1]}"]
                texts = [_percent(mine[key].figures, name) for key in keys]
                lines.append([look(method).label, mean, f"{100 * saved:.0f} %", *texts])
            columns = ["method", "mean", "measurements saved", *(f"{d}, {v:g} km/h" for d, v in keys)]
            text = f"In brackets: gain over {look(bar).label}, paired, with 95 % interval. {_rests_on(cells[0])}"
            out.append({"title": title, "columns": columns, "lines": lines, "text": text})
        if self.label in methods:
            lines = [
                [look(other).label, *(points(mean_gain(main, metric, self.label, other)) for metric in METRICS)]
                for other in methods
                if other != self.label
            ]
            columns = ["over", "top-1", "top-3", "top-5", "SE, first beam", "SE, best of 3 measured again", "of 5"]
            text = f"Means over the {len(main)} cells above, paired, with 95 % intervals. {_rests_on(cells[0])}"
            title = f"Gains of {look(self.label).label} over every other method [percentage points]"
            out.append({"title": title, "columns": columns, "lines": lines, "text": text})
        for group, key, what in (
            ("beams", "beams", "beams measured in a sweep"),
            ("snr", None, "SNR per port [dB]"),
            ("period", "period_ms", "sweep period [ms]"),
            ("array", "label", "array"),
        ):
            found = results.select(group=group)
            if not found:
                continue
            at = list(dict.fromkeys(r.settings[key] if key else r.csi_snr_db for r in found))
            for name, title in (
                ("top1", "top-1 accuracy [%]"),
                ("se_ratio_top1", "SE of the first beam [%]"),
                ("se_ratio_top3", "SE after measuring the first three [%]"),
            ):
                lines = []
                for method in order([row.method for row in found]):
                    mine = [row for row in found if row.method == method]
                    lines.append([look(method).label, *(_percent(row.figures, name) for row in mine)])
                columns = ["method", *(p if isinstance(p, str) else f"{p:g}" for p in at)]
                where = f"{found[0].data}, {found[0].speed_kmh:g} km/h. {_rests_on(found[0])}"
                out.append({"title": f"Over {what}: {title}", "columns": columns, "lines": lines, "text": where})
        timed = [row for row in cells if "latency_p50_ms" in row.figures]
        lines = [
            [
                look(r.method).label,
                f"{r.figures['latency_p50_ms'].number:.2f}",
                f"{r.figures['latency_p99_ms'].number:.2f}",
                f"{r.parameters_total:,}",
            ]
            for r in timed
        ]
        if lines:
            columns = ["method", "p50 [ms]", "p99 [ms]", "parameters"]
            out.append({"title": "Latency of one track, one thread", "columns": columns, "lines": lines, "text": ""})
        return out

    def _compared(self, record: dict[str, Any]) -> list[str]:
        recipe, beams = record["cell"]["recipe"], record["beams"]
        return [
            f"{self.history} sweeps, {1e3 * recipe['slot_duration']:g} ms apart, each of {self.beams_per_sweep} of "
            f"{beams} DFT beams at {self.snr_db:g} dB per port and subcarrier; beams are named for each of the next "
            f"{self.horizon} sweeps. Figures are means over them.",
            f"Users drive through spatially consistent cells at {recipe['carrier_frequency'] / 1e9:g} GHz: angles, "
            "blockage and fading change on the way. Nothing was trained on the drops that are judged.",
            f"Classical methods are tuned, and the two regressions trained, for each cell on {self.num_tune} tracks of "
            "other drops of the same scenario at the same speed, codebook and schedule of sweeps. The learned method "
            "is one network for all cells; its training set is named in its model card.",
        ]


class Tracks:
    """Tracks of cells: to judge, and to tune and train on, in units of the mean power of each track's history.

    Tracks of the last channel are kept: neighbouring cells that differ in SNR or in the beams measured share them.
    """

    def __init__(self) -> None:
        self._key: Any = None
        self._kept: tuple[LinkBatch, LinkBatch] | None = None

    def of(self, cell: Cell) -> tuple[LinkBatch, LinkBatch]:
        """``(judged, training)``: ``num_links`` and ``num_tune`` tracks, of different drops."""
        key = (cell.recipe, cell.num_links, cell.num_tune, cell.history, cell.num_future, cell.seed)
        if self._kept is None or key != self._key:
            self._kept = None  # never twice in memory
            self._kept = cell.links("test", cell.num_links), cell.links("tune", cell.num_tune)
            for batch in self._kept:  # the future sets no level
                past = batch.h[:, : cell.history].abs().square().mean((1, 2, 3, 4), keepdim=True)
                batch.h = batch.h / past.clamp_min(1e-12).sqrt()
            self._key = key
        return self._kept


@dataclass
class Training:
    """What classical methods are tuned and trained on: ``measured [sweep, beam]``, the measured ``power [track, sweep,
    beam]``, the true ``future [track, horizon, beam]`` and the ``drop [track]``."""

    measured: Tensor
    power: Tensor
    future: Tensor
    drop: Tensor

    def lost(self, method: Any, tracks: slice | Tensor = slice(None)) -> float:
        """Mean rate that a method's first beam loses to the best beam on some of the tracks [bit/s/Hz]."""
        truth = self.future[tracks]
        scores = method.scores(self.power[tracks], self.measured, truth.shape[1])
        chosen = truth.gather(-1, scores.argmax(-1, keepdim=True))[..., 0]
        return float(((1 + truth.amax(-1)).log2() - (1 + chosen).log2()).mean())

    def fit(self, name: str) -> tuple[TrainedLinear, dict[str, Any]]:
        """A trained method: its ridge is the best on a quarter of the drops, its weights are of all tracks."""
        method = find(name, "beam-tracker")
        kind: Any = method.load()
        ridges = method.grid["ridge"]
        drops = self.drop.unique()
        held_out = torch.isin(self.drop, drops[-max(1, len(drops) // 4) :])
        fitted = ~held_out if len(drops) > 1 else held_out

        def loss(ridge: float) -> float:
            return self.lost(kind.fit(self.power[fitted], self.measured, self.future[fitted], ridge), held_out)

        ridge = min(ridges, key=loss)
        return kind.fit(self.power, self.measured, self.future, ridge), {"ridge": ridge}


def _percent(figures: Mapping[str, Figure], name: str) -> str:
    return percent(figures[name], figures.get(f"{name}_gain"))


def _rests_on(row: Row) -> str:
    return f"{row.num_links} tracks from {row.num_drops} drops in each cell."
