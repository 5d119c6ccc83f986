"""The benchmark of channel prediction: cells of scenario, speed and CSI SNR, tuned classical methods, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from airlam.csi import Impairment
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.contenders import OFF, Entries, contenders_of_cell
from airlam.evaluation.engine.fingerprint import combined, fingerprint, outside
from airlam.evaluation.engine.measure import measure_cell, picture, predict_all, run_cells
from airlam.evaluation.engine.summarise import age_rows, cell_rows, csi_period_rows, mean_rows, path_loss_rows
from airlam.evaluation.report.html import publish
from airlam.evaluation.report.markdown import write_leaderboard
from airlam.evaluation.report.plots import title
from airlam.evaluation.report.sentences import bar_label, details, headline
from airlam.evaluation.report.verdicts import MIN_GROUPS
from airlam.evaluation.rows import Results
from airlam.interfaces import RecipeError
from airlam.methods import describe, names
from airlam.metrics import cpu_threads

ALL_METHODS = (
    "hold",
    "mean",
    "wiener",
    "pad",
    "ar",
    "kalman",
    "eigen-ar",
    "stack",
    "{model}",
    "{model}" + OFF,
    "genie_per_bin",
    "genie_lmmse",
    "perfect",
)
IMPAIRMENTS: dict[str, dict[str, float]] = {
    "none": {},
    "common phase, 0.1 rad": {"phase_std": 0.1},
    "carrier offset, 100 Hz": {"cfo_hz": 100.0},
    "timing offset, 10 ns": {"timing_std_s": 10e-9},
    "missing slots, 20 %": {"missing": 0.2},
}


class ChannelPredictionBenchmark:
    """Channel prediction against tuned classical methods, with bounds.

    Headline cells are all ``scenarios`` x ``speeds_kmh`` at ``csi_snr_db``. Beside them stand, with fewer links, a
    sweep over CSI SNR, and of the first scenario the latency-charged spectral efficiency, the CSI period, impairments.

    Args:
        model: the learned method: a shipped checkpoint's name, a checkpoint folder, a Lightning ``.ckpt``; or one of
            your own: ``{class_path: my_gru.MyGRU, init_args: {...}}``, ``my_gru:MyGRU``, in Python also an object.
        scenarios: names of channel recipes.
        speeds_kmh: speeds of all users [km/h].
        csi_snr_db: SNR of the measured history in the headline cells [dB].
        methods: names (``airlam list predictors``), or methods of your own as for ``model``; ``{model}`` stands for the
            model, ``{model}:no-correction`` for its classical start alone (of airlam's own networks).
        bar: the method that gains are relative to.
        history: slots seen. horizon: slots predicted.
        num_links: links of a headline cell. num_tune: links that the baselines are tuned on, of other drops.
        links_per_drop: users that share a base station and a drop; a multiple of every group size.
        users: sizes of the groups served together.
        transmit_snr_db: of the sum-SE curves [dB]. headline_snr_db: the one in tables.
        tone_step: spectral efficiency uses every n-th subcarrier.
        sweep_csi_snr_db: further SNRs, at ``sweep_speeds_kmh`` of ``sweep_scenarios`` (``None``: of the first one).
        age_speed_kmh: speed of the latency-charged curve; ``None`` leaves it out. age_horizon: slots predicted there.
        csi_periods_ms: CSI periods [ms], at ``period_speed_kmh``; empty leaves them out.
        impairments: labels and keyword arguments of :class:`airlam.csi.Impairment`, at ``impairment_speed_kmh``;
            ``None``: a default set; empty: none.
        side_links: links of each cell beside the headline, and the most links that tune there.
        channel_overrides: keys that replace those of every channel recipe (smaller panels for a quick look).
        others: further methods, as for ``model``: a list, or a mapping from the names of their rows
            (``{gru: runs/comparators/gru/checkpoint, mine: {class_path: my_gru.MyGRU}}``). Those of a mapping that
            ``methods`` does not name stand after the model; those of a list only where ``methods`` names them.
        held_out: data that the model never saw in pretraining: label -> ``channel`` (a recipe's name) and keys that
            replace those of its recipe; at ``held_out_speeds_kmh``, ``held_out_links`` each.
        seed: of links, noise, and nothing else.
        threads: CPU threads; latency is always measured on one.
        quick: a small version of everything, for tests: two speeds, few links.
        title: of the report.

    Raises:
        RecipeError: an unknown method, or sizes that do not fit.

    Example:
        >>> ChannelPredictionBenchmark(quick=True).num_links
        16
    """

    def __init__(
        self,
        model: Any = "airlam-tiny",
        scenarios: Sequence[str] = ("uma_nlos", "umi_nlos"),
        speeds_kmh: Sequence[float] = (3.0, 30.0, 60.0, 100.0),
        csi_snr_db: float = 20.0,
        methods: Sequence[Any] = ALL_METHODS,
        bar: str = "ar",
        history: int = 16,
        horizon: int = 4,
        num_links: int = 192,
        num_tune: int = 64,
        links_per_drop: int = 8,
        users: Sequence[int] = (4, 8),
        transmit_snr_db: Sequence[float] = (0.0, 10.0, 20.0, 30.0),
        headline_snr_db: float = 20.0,
        tone_step: int = 4,
        sweep_csi_snr_db: Sequence[float] = (0.0, 10.0, 20.0, 30.0),
        sweep_speeds_kmh: Sequence[float] = (30.0,),
        sweep_scenarios: Sequence[str] | None = None,
        age_speed_kmh: float | None = 60.0,
        age_horizon: int = 16,
        csi_periods_ms: Sequence[float] = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0),
        period_speed_kmh: float = 10.0,
        impairments: dict[str, dict[str, float]] | None = None,
        impairment_speed_kmh: float = 30.0,
        side_links: int = 48,
        channel_overrides: dict[str, Any] | None = None,
        others: Sequence[Any] | Mapping[str, Any] = (),
        held_out: dict[str, dict[str, Any]] | None = None,
        held_out_speeds_kmh: Sequence[float] = (3.0, 30.0, 60.0),
        held_out_links: int = 96,
        seed: int = 7,
        threads: int = 1,
        quick: bool = False,
        title: str = "Channel prediction against tuned classical methods",
    ):
        self.config = {name: describe(value) for name, value in locals().items() if name != "self"}
        if quick:
            scenarios, speeds_kmh = scenarios[:1], speeds_kmh[:2]
            num_links, num_tune, side_links = min(num_links, 16), min(num_tune, 8), min(side_links, 8)
            sweep_csi_snr_db, csi_periods_ms = sweep_csi_snr_db[:2], csi_periods_ms[:2]
            sweep_speeds_kmh, sweep_scenarios = sweep_speeds_kmh[:1], None
            held_out_links, held_out_speeds_kmh = side_links, held_out_speeds_kmh[:1]
        self.entries = Entries(model, others, methods)
        self.label, self.methods = self.entries.label, self.entries.names
        self.scenarios, self.csi_snr_db = list(scenarios), float(csi_snr_db)
        self.speeds_kmh = [float(speed) for speed in speeds_kmh]
        self.bar, self.history, self.horizon = bar, history, horizon
        self.num_links, self.num_tune, self.side_links = num_links, num_tune, side_links
        self.links_per_drop, self.users = links_per_drop, tuple(sorted(int(k) for k in users))
        self.transmit_snr_db = tuple(sorted({float(snr) for snr in (*transmit_snr_db, headline_snr_db)}))
        self.headline_snr_db, self.tone_step = float(headline_snr_db), tone_step
        self.sweep_csi_snr_db, self.sweep_speeds_kmh = list(sweep_csi_snr_db), list(sweep_speeds_kmh)
        self.sweep_scenarios = self.scenarios[:1] if sweep_scenarios is None else list(sweep_scenarios)
        self.age_speed_kmh, self.age_horizon = age_speed_kmh, age_horizon
        self.csi_periods_ms, self.period_speed_kmh = list(csi_periods_ms), period_speed_kmh
        self.impairments = IMPAIRMENTS if impairments is None else impairments
        self.impairment_speed_kmh = impairment_speed_kmh
        self.channel_overrides = dict(channel_overrides or {})
        self.held_out, self.held_out_links = dict(held_out or {}), held_out_links
        self.held_out_speeds_kmh = [float(speed) for speed in held_out_speeds_kmh]
        self.seed, self.threads, self.quick, self.title = seed, threads, quick, title
        self._check()

    def _check(self) -> None:
        if not self.scenarios or not self.speeds_kmh:
            raise RecipeError("scenarios and speeds_kmh must not be empty: they are the cells")
        for name, low in (("history", 2), ("horizon", 1), ("threads", 1), ("tone_step", 1)):
            if getattr(self, name) < low:
                raise RecipeError(f"{name} is {getattr(self, name)}, but must be at least {low}")
        if self.links_per_drop < 1:
            raise RecipeError(f"links_per_drop is {self.links_per_drop}, but must be at least 1")
        classical = names("predictor", "classical", built=True)
        if self.bar not in classical:
            raise RecipeError(f"bar is {self.bar!r}, but must be a classical method: {', '.join(classical)}")
        for label, impairment in self.impairments.items():
            unknown = [key for key in impairment if key not in Impairment._fields]
            if unknown:
                raise RecipeError(
                    f"impairments.{label} has no key {unknown[0]!r}; keys are {', '.join(Impairment._fields)}"
                )
        if self.bar not in self.methods:
            raise RecipeError(f"bar is {self.bar!r}, which is not among the methods {', '.join(self.methods)}; add it")
        if self.label not in self.methods:
            raise RecipeError(f"the model {self.label!r} is not among the methods; add '{{model}}'")
        for users in self.users:
            if users < 1 or self.links_per_drop % users:
                raise RecipeError(
                    f"groups of {users} users do not fit drops of {self.links_per_drop} links; make links_per_drop a "
                    "multiple of every group size"
                )
        for label, recipe in self.held_out.items():
            if "channel" not in recipe:
                raise RecipeError(f"held_out.{label} is {recipe!r}, but must name a channel recipe: channel: uma_nlos")
        for name in ("num_links", "num_tune", "side_links", "held_out_links"):
            if getattr(self, name) < 1 or getattr(self, name) % self.links_per_drop:
                raise RecipeError(
                    f"{name} is {getattr(self, name)}, but must be a positive multiple of links_per_drop "
                    f"({self.links_per_drop}): no drop is ever split"
                )
        if self.age_speed_kmh is not None and self.age_horizon < self.horizon:
            raise RecipeError(f"age_horizon is {self.age_horizon}, but must be at least the horizon {self.horizon}")

    def cells(self) -> list[Cell]:
        """Every cell, in the order they run: the headline first."""
        from airlam.channels import load_channel

        def cell(
            group: str, data: str, speed: float, snr: float, *, num_links: int | None = None, **fields: Any
        ) -> Cell:
            overrides = {"speed_kmh": speed, **self.channel_overrides, **fields.pop("recipe", {})}
            if self.users:
                overrides["links_per_drop"] = self.links_per_drop
            values: dict[str, Any] = dict(
                group=group,
                data=data,
                recipe=load_channel({**load_channel(data).recipe, **overrides}).recipe,
                speed_kmh=float(speed),
                csi_snr_db=float(snr),
                num_links=num_links or self.side_links,
                num_tune=self.num_tune if fields.get("headline") else min(self.num_tune, self.side_links),
                history=self.history,
                horizon=self.horizon,
                num_future=self.horizon,
                methods=tuple(self.methods),
                users=self.users,
                transmit_snr_db=self.transmit_snr_db,
                headline_snr_db=self.headline_snr_db,
                tone_step=self.tone_step,
                seed=self.seed,
            )
            return Cell(**(values | fields))

        first, out = self.scenarios[0], []
        realistic = tuple(m for m in self.methods if not m.startswith("genie"))
        timed_speed = self.speeds_kmh[-1] if self.age_speed_kmh not in self.speeds_kmh else self.age_speed_kmh
        for data in self.scenarios:
            for speed in self.speeds_kmh:
                timed = data == first and speed == timed_speed
                out.append(
                    cell(
                        "cell",
                        data,
                        speed,
                        self.csi_snr_db,
                        num_links=self.num_links,
                        headline=True,
                        timed=timed,
                        path_loss=bool(self.users) and speed == timed_speed,
                    )
                )
        for data in self.sweep_scenarios:
            for speed in self.sweep_speeds_kmh:
                for snr in self.sweep_csi_snr_db:
                    if not (snr == self.csi_snr_db and speed in self.speeds_kmh and data in self.scenarios):
                        out.append(cell("cell", data, speed, snr))
        one, small = self.users[:1], (self.headline_snr_db,)
        if self.age_speed_kmh is not None and self.users:
            # the slots that a prediction 10 ms late must still serve
            slots = round(10e-3 / load_channel(first).slot_duration) + self.horizon - 1
            out.append(
                cell(
                    "age",
                    first,
                    self.age_speed_kmh,
                    self.csi_snr_db,
                    horizon=self.age_horizon,
                    num_future=max(slots, self.age_horizon),
                    methods=realistic,
                    users=one,
                    transmit_snr_db=small,
                    timed=True,
                )
            )
        for period in self.csi_periods_ms if self.users else ():
            out.append(
                cell(
                    "csi_period",
                    first,
                    self.period_speed_kmh,
                    self.csi_snr_db,
                    horizon=1,
                    num_future=1,
                    methods=realistic,
                    users=one,
                    transmit_snr_db=small,
                    recipe={"slot_duration": 1e-3 * period},
                )
            )
        for label, held_out in self.held_out.items():
            overrides = {key: value for key, value in held_out.items() if key != "channel"}
            for speed in self.held_out_speeds_kmh:
                out.append(
                    cell(
                        "held_out",
                        held_out["channel"],
                        speed,
                        self.csi_snr_db,
                        num_links=self.held_out_links,
                        recipe=overrides,
                        label=label,
                    )
                )
        for label, impairment in self.impairments.items():
            out.append(
                cell(
                    "impairments",
                    first,
                    self.impairment_speed_kmh,
                    self.csi_snr_db,
                    methods=realistic,
                    users=one,
                    transmit_snr_db=small,
                    impairment=dict(impairment),
                    label=label,
                )
            )
        return out

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet, and write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Every finished cell is a file in ``out/cells``; an interrupted benchmark goes on where it stopped, and one whose
        figures depend on something else (weights, settings, seeds) starts afresh by itself.

        Returns:
            The path of ``report.html``.
        """
        out = Path(out)
        with cpu_threads(self.threads):
            models = self.entries.built()
            records, pictures = self._records(models, out)
        results = self.results(records, pictures)
        results.config["weights"] = {name: fingerprint(model) for name, model in models.items()}
        return publish(results, out, threads=self.threads, leaderboard=write_leaderboard)

    def _records(self, models: dict[str, Any], out: Path) -> tuple[list[dict], dict]:
        weights = combined([*models.values(), *outside(name for name in self.methods if name not in models)])
        records = run_cells(self.cells(), lambda cell: self._run_cell(cell, models), lambda _: weights, out, cost)
        return records, next((record["picture"] for record in records if record.get("picture")), {})

    def _run_cell(self, cell: Cell, models: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        links = cell.links("test", cell.num_links)
        h_past, observed = cell.observe(links.h, "test")
        contenders = contenders_of_cell(cell, links, models, observed)
        record = measure_cell(cell, links, h_past, contenders)
        if cell.timed and cell.headline:
            shown = [c for c in contenders if c.name in (self.bar, self.label)]
            few = {c.name: predict_all(c, h_past[:1], cell.horizon) for c in shown}
            record["picture"] = picture(links, cell.history, few)
        record["seconds"] = round(time.perf_counter() - start, 1)
        return record

    def results(self, records: list[dict[str, Any]], picture: dict[str, Any] | None = None) -> Results:
        """Rows, headline and notes from the records of all cells."""

        def of(group: str) -> list[dict[str, Any]]:
            return [record for record in records if record["cell"]["group"] == group]

        main = [record for record in of("cell") if record["cell"]["headline"]]
        results = Results(self.title, "channel_prediction", config=dict(self.config))
        timed: dict[str, Any] = next((record["methods"] for record in main if record["cell"]["timed"]), {})
        results.rows += mean_rows(main, self.bar, timed)
        for record in of("cell"):
            results.rows += cell_rows(record, self.bar)
        for record in of("age"):
            results.rows += age_rows(record, self.bar, csi_period=self.horizon)
        if periods := of("csi_period"):
            results.rows += csi_period_rows(periods)
        for label in self.held_out:
            mine = [record for record in of("held_out") if record["cell"]["label"] == label]
            for row in mean_rows(mine, self.bar, {}):
                results.rows.append(replace(row, group="held_out", settings={"held_out": label}))
        for record in of("impairments"):
            results.rows += [row for row in cell_rows(record, self.bar) if row.method != "perfect"]
        for record in main:
            results.rows += path_loss_rows(record, self.bar)
        results.recipes = {record["cell"]["data"]: record["cell"]["recipe"] for record in main}
        results.headline = headline(results, self.label, self.bar)
        results.extras = {
            "focus": self.label,
            "bar": self.bar,
            "details": details(results, self.label, self.bar),
            "compared": self._compared(main),
            "mean_text": f"Means over {len(main)} cells at {self.csi_snr_db:g} dB CSI SNR. Spectral efficiency at "
            f"{self.headline_snr_db:g} dB transmit SNR. In the linear mean the fastest users weigh most; in the mean "
            "over cells (of dB) every speed weighs alike.",
            "path_loss_text": "Users with the path loss, shadowing and element gains of their drop, 43 dBm over the "
            "band, noise figure 9 dB; beams of equal power. History still measured at the cell's CSI SNR.",
            "picture": picture or {},
        }
        results.notes = list(NOTES.values())
        return results

    def _compared(self, main: list[dict[str, Any]]) -> list[str]:
        cell = main[0]["cell"]
        recipe = cell["recipe"]
        ports = recipe["bs_panel"]["rows"] * recipe["bs_panel"]["columns"]
        ports *= 2 if recipe["bs_panel"]["polarisation"] == "dual" else 1
        links, drops = len(main[0]["drop"]), len(set(main[0]["drop"]))
        return [
            f"From {self.history} measured CSI occasions, {1e3 * recipe['slot_duration']:g} ms apart, the next "
            f"{self.horizon} are predicted, for {ports} ports x {recipe['num_subcarriers']} subcarriers at "
            f"{recipe['carrier_frequency'] / 1e9:g} GHz. The history has a CSI SNR of {self.csi_snr_db:g} dB; the "
            "target is the true channel.",
            f"{len(main)} cells: {', '.join(map(title, self.scenarios))} at "
            f"{', '.join(f'{v:g}' for v in self.speeds_kmh)} km/h. Each cell holds {links} links from {drops} drops (a "
            "drop is one random placement of a base station and its users), made by Sionna from 3GPP TR 38.901. Every "
            "method sees the same links and the same noise. Classical methods are tuned in each cell, on "
            f"{self.num_tune} links of other drops.",
            f"The learned method is {self.label}. Gains are relative to {bar_label(self.bar)}. “{self.label}, "
            "correction off” is the classical filter that the model starts from, without what its network adds. "
            "Genies know the rays of each link, which no receiver does, and bound what can be reached.",
        ]


NOTES = {
    "tags": "Measured: computed on simulated channels, or timed, in this run. Modelled: derived from measured figures "
    "by the formula in the caption.",
    "nmse": "NMSE: mean over links of the error energy over the energy of the true channel; decibels after averaging.",
    "intervals": "Intervals: 95 %, bootstrap over drops; differences are paired, on the same links and noise. A cell "
    "is worse when the whole interval of the gain lies below zero. A verdict takes at least "
    f"{MIN_GROUPS} drops: from fewer, intervals exclude zero too often by chance.",
    "sum_se": "Sum-SE: regularised zero forcing with equal-power beams from predicted CSI, judged on the true channel; "
    "each user scaled to unit mean channel gain; users of one group share one drop.",
    "single": "Single-user SE: matched beam. 5 %-user SE: the rate that 95 % of the users of the smallest groups "
    "exceed.",
    "genies": "The genie LMMSE knows delay, angle, Doppler and power of every ray of the link, and not the phases: a "
    "bound for linear methods. The per-bin genie filters each beam-delay bin alone, knowing its Doppler spectrum.",
    "latency": "Latency: 100 predictions of one link on one thread, after 5 to warm up. A timing is marked as taken "
    "on a busy machine if the calls had less than 90 % of a core.",
    "age": "Sum-SE with latency: a prediction that takes L serves the slots from L on, one horizon long; after the "
    "last predicted slot that slot is held.",
    "period": "CSI periods: the history is sampled at the period, so it spans 16 of them. Ray angles stay fixed "
    "over that time, which makes every method look better at long periods than it would be. One CSI occasion costs "
    "one of the 14 OFDM symbols of a 0.5 ms slot.",
    "seeds": "The learned method is one checkpoint of one training seed.",
}


def cost(cell: Cell) -> float:
    """Rough share of a cell in the whole run, for the estimate of the time left."""
    genies = 4 * sum(method.startswith("genie") for method in cell.methods)
    return cell.num_links * (len(cell.methods) + genies) * (2 if cell.group == "age" else 1) + 4 * cell.num_tune
