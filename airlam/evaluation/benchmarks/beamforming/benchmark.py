"""The benchmark of beamforming: from noisy, ageing CSI to multi-user spectral efficiency, chain against chain."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from airlam.evaluation.benchmarks.beamforming.chains import DENOISED, Chain, chain_text, fill_in, parse_chain
from airlam.evaluation.benchmarks.beamforming.measure import measure_chains
from airlam.evaluation.benchmarks.beamforming.predicted import predicted_sources
from airlam.evaluation.benchmarks.beamforming.present import denoised_sources, pilot_sources
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.contenders import OFF, build_row, row_of
from airlam.evaluation.engine.fingerprint import combined, fingerprint, outside
from airlam.evaluation.engine.measure import run_cells
from airlam.evaluation.engine.summarise import age_rows, cell_rows, csi_period_rows, mean_rows, mean_sum_se_gain
from airlam.evaluation.report.html import publish
from airlam.evaluation.report.style import is_learned, look, order
from airlam.evaluation.report.verdicts import verdict
from airlam.evaluation.rows import Figure, Results, Row
from airlam.interfaces import RecipeError
from airlam.methods import describe, is_own
from airlam.methods import names as registered
from airlam.metrics import cpu_threads
from airlam.recipes import find_checkpoint

METHODS = (
    "hold + rzf",
    "ar + rzf",
    "ar + wmmse",
    "ar + tuned",
    "eigen-ar + tuned",
    "{model} + rzf",
    "{model} + robust rzf",
    "{model} + robust wmmse",
    "{model} + {precoder}",
    "perfect + rzf",
    "perfect + wmmse",
    "perfect + tuned",
    "perfect + dpc",
)
PILOT_METHODS = (
    "ls + rzf",
    "lmmse + rzf",
    "lmmse + tuned",
    "{pilots}:no-correction + {precoder}",
    "{pilots} + rzf",
    "{pilots} + {precoder}",
    "perfect + rzf",
)
STATIC = (
    "raw + tuned",
    "threshold + tuned",
    "lmmse + tuned",
    "{model} + rzf",
    "{model} + wmmse",
    "{model} + robust wmmse",
    "{model} + {precoder}",
    "{pilots} + {precoder}",
    "perfect + rzf",
    "perfect + wmmse",
    "perfect + tuned",
)


FULL = "perfect CSI with the best classical precoder (RZF or WMMSE, chosen in each cell as for the baseline)"
YARDSTICK = "perfect + tuned"  # shares of the gap count from the bar to this
CONTROL = ":random-start"  # after the name of what a control is of


class BeamformingBenchmark:
    """Chains of CSI and precoder against the best classical pair, and against perfect CSI.

    A chain is named ``"ar + rzf"``: any predictor, and any precoder (see ``chains.py`` beside this file). Headline
    cells are all ``scenarios`` x ``speeds_kmh`` at ``csi_snr_db``; beside them stand, with fewer links, sweeps over CSI
    SNR, speed, users, CSI period; other arrays; the latency-charged curve; and static users with noisy CSI.

    Args:
        model: the learned predictor: a shipped checkpoint's name, a checkpoint folder, a Lightning ``.ckpt``; or one of
            your own: ``{class_path: my_gru.MyGRU, init_args: {...}}``, ``my_gru:MyGRU``, in Python also an object.
        precoder: the learned precoder, likewise; one of your own is handed the covariance of the CSI's errors.
        controls: further learned precoders: names of their rows -> checkpoints. Each follows ``{precoder}`` as a row.
        scenarios: names of channel recipes. speeds_kmh: of all users.
        csi_snr_db: of the measured history in the headline cells.
        methods: chains, see ``chain_text`` in ``chains.py``; ``{model}`` and ``{precoder}`` stand for the learned ones.
        bar: the chain that gains are relative to.
        history, horizon: slots seen, slots predicted.
        num_links: links of a headline cell. num_tune: links that classics are tuned on, of other drops; for static
            users ``num_train``, half of which give LMMSE the covariance of the cell.
        links_per_drop: users that share a base station and a drop; a multiple of every group size of ``users``.
        users: sizes of the groups. transmit_snr_db: of the sum-SE curves. headline_snr_db: the one in tables.
        tone_step: spectral efficiency uses every n-th subcarrier.
        side_links: links of each cell beside the headline.
        sweep_csi_snr_db, sweep_speeds_kmh: further cells of the first scenario, at the first of ``sweep_speeds_kmh``
            and at ``csi_snr_db`` respectively.
        sweep_users: group sizes of the curve over users, at ``sweep_speeds_kmh[0]``; drops then hold the largest.
        csi_periods_ms: CSI periods, at ``period_speed_kmh``. age_speed_kmh: of the latency-charged curve; None: none.
        arrays: label -> keys that replace those of the first recipe (panels, several receive antennas).
        static_csi_snr_db: CSI SNRs of the static users; empty leaves them out. static_methods: their chains.
        pilots: the network that reads pilots, a shipped checkpoint's name or a folder; None leaves pilots out.
        pilots_control: another one, trained alike from random weights: it follows ``{pilots} + {precoder}`` as a row.
        num_pilots: how many each static user sends, at ``pilot_snr_db``; least squares needs as many as there are
            ports. pilot_methods: their chains; ``{pilots}`` stands for the network.
        channel_overrides: keys that replace those of every channel recipe.
        seed: of links, noise. threads: CPU threads; latency is measured on one.
        quick: a small version, for tests. title: of the report.

    Raises:
        RecipeError: an unknown method, or sizes that do not fit.

    Example:
        >>> BeamformingBenchmark(precoder="wmmse", methods=["ar + tuned", "{model} + rzf"], static_csi_snr_db=[]).bar
        'ar + tuned'
    """

    def __init__(
        self,
        model: Any = "airlam-tiny",
        precoder: Any = "airlam-precoder",
        controls: Mapping[str, Any] | None = None,
        scenarios: Sequence[str] = ("uma_nlos", "umi_nlos"),
        speeds_kmh: Sequence[float] = (30.0, 60.0, 100.0),
        csi_snr_db: float = 20.0,
        methods: Sequence[Any] = METHODS,
        bar: Any = "ar + tuned",
        history: int = 16,
        horizon: int = 4,
        num_links: int = 128,
        num_tune: int = 96,
        num_train: int = 512,
        links_per_drop: int = 8,
        users: Sequence[int] = (4, 8),
        transmit_snr_db: Sequence[float] = (0.0, 10.0, 20.0, 30.0),
        headline_snr_db: float = 20.0,
        tone_step: int = 8,
        side_links: int = 64,
        sweep_csi_snr_db: Sequence[float] = (0.0, 10.0, 30.0),
        sweep_speeds_kmh: Sequence[float] = (60.0, 3.0, 120.0),
        sweep_users: Sequence[int] = (2, 4, 8, 12, 16),
        csi_periods_ms: Sequence[float] = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0),
        period_speed_kmh: float = 10.0,
        age_speed_kmh: float | None = 60.0,
        arrays: Mapping[str, dict[str, Any]] | None = None,
        static_csi_snr_db: Sequence[float] = (0.0, 10.0),
        static_methods: Sequence[Any] = STATIC,
        pilots: str | None = None,
        pilots_control: str | None = None,
        num_pilots: Sequence[int] = (4, 8, 16, 32),
        pilot_snr_db: Sequence[float] = (10.0, 20.0),
        pilot_methods: Sequence[str] = PILOT_METHODS,
        channel_overrides: dict[str, Any] | None = None,
        seed: int = 7,
        threads: int = 1,
        quick: bool = False,
        title: str = "Beamforming from noisy, ageing CSI",
    ):
        self.config = {name: describe(value) for name, value in locals().items() if name != "self"}
        if quick:
            scenarios, speeds_kmh, num_links, num_tune, side_links = scenarios[:1], speeds_kmh[:2], 16, 32, 16
            num_train = 128
            sweep_csi_snr_db, sweep_speeds_kmh, csi_periods_ms = sweep_csi_snr_db[:1], sweep_speeds_kmh[:1], ()
            sweep_users, arrays, static_csi_snr_db = sweep_users[:2], dict([*(arrays or {}).items()][:1]), [10.0]
            age_speed_kmh, num_pilots, pilot_snr_db = None, num_pilots[-1:], pilot_snr_db[:1]
        self.label, self.model = row_of(model, "model")
        self.label = self.label.removesuffix(".ckpt")
        # a shipped precoder by name stands in chains as itself; {precoder} is a learned one, or one of the user's own
        self.by_name = not is_own(precoder) and str(precoder) in registered("precoder", built=True)
        self.precoder_label, self.precoder = row_of(precoder, "precoder", role="precoder")
        self.precoder_label = Path(self.precoder_label).stem
        self.controls = {}
        for name, value in (controls or {}).items():
            name, what = row_of(value, f"controls.{name}", str(name), "precoder")
            self.controls[name] = what
        methods, static_methods = ([chain_text(value) for value in given] for given in (methods, static_methods))
        bar = chain_text(bar, "bar")
        self.scenarios, self.speeds_kmh = list(scenarios), [float(v) for v in speeds_kmh]
        self.csi_snr_db, self.history, self.horizon = float(csi_snr_db), history, horizon
        self.num_links, self.num_tune, self.side_links = num_links, num_tune, side_links
        self.num_train = num_train
        self.links_per_drop, self.users = links_per_drop, tuple(sorted(int(k) for k in users))
        self.transmit_snr_db = tuple(sorted({float(snr) for snr in (*transmit_snr_db, headline_snr_db)}))
        self.headline_snr_db, self.tone_step = float(headline_snr_db), tone_step
        self.sweep_csi_snr_db, self.sweep_speeds_kmh = list(sweep_csi_snr_db), list(sweep_speeds_kmh)
        self.sweep_users = tuple(sorted(int(k) for k in sweep_users))
        self.csi_periods_ms, self.period_speed_kmh = list(csi_periods_ms), period_speed_kmh
        self.age_speed_kmh, self.arrays = age_speed_kmh, dict(arrays or {})
        self.static_csi_snr_db = list(static_csi_snr_db)
        self.pilots, self.pilots_label = pilots, Path(pilots or "none").name
        self.pilots_control = pilots_control if pilots else None
        self.num_pilots = [int(n) for n in num_pilots] if pilots else []
        self.pilot_snr_db = [float(snr) for snr in pilot_snr_db]
        self.channel_overrides = dict(channel_overrides or {})
        self.seed, self.threads, self.quick, self.title = seed, threads, quick, title
        self._check()
        learned = [*self.controls] if self.by_name else [self.precoder_label, *self.controls]
        sources = [*registered("predictor", built=True), "perfect", self.label, self.label + OFF]
        self.chains = self._chains(methods, sources, learned)
        static = [text for text in static_methods if pilots or "{pilots}" not in text]
        control = [self.pilots_label + CONTROL] if self.pilots_control else []
        known = [*DENOISED, "perfect", self.label, self.pilots_label, *control]
        self.static_chains = self._chains(static, known, learned)
        read = [self.pilots_label, self.pilots_label + OFF, *control]
        self.pilot_chains = self._chains(pilot_methods, ["ls", "lmmse", "perfect", *read], learned) if pilots else []
        self.bar = parse_chain(self._named(bar), sources, learned).name
        self.focus = f"{self.label} + {self.precoder_label}"
        names = [chain.name for chain in self.chains]
        for name, what in ((self.bar, "bar"), (self.focus, "learned chain '{model} + {precoder}'")):
            if name not in names and not (what != "bar" and self.by_name):
                raise RecipeError(f"the {what} is {name!r}, which is not among the methods {', '.join(names)}; add it")
        if self.focus not in names:
            self.focus = next((name for name in names if name.startswith(f"{self.label} + ")), self.bar)

    def _named(self, text: str) -> str:
        names = {"{model}": self.label, "{precoder}": self.precoder_label, "{pilots}": self.pilots_label}
        return fill_in(text, names)

    def _chains(self, methods: Sequence[str], sources: Sequence[str], learned: Sequence[str]) -> list[Chain]:
        chains = []
        for text in methods:
            if "{precoder}" in text and self.by_name:
                continue
            chains.append(parse_chain(self._named(text), sources, learned))
            if "{precoder}" in text:
                chains += [replace(chains[-1], precoder=name) for name in self.controls]
            if self.pilots_control and "{pilots} + {precoder}" == text:
                chain = parse_chain(self._named(text), sources, learned)
                chains.append(replace(chain, source=self.pilots_label + CONTROL))
        predictors = registered("predictor", built=True)
        for chain in chains:
            if chain.precoder == "tuned" and chain.source not in (*predictors, *DENOISED, "ls", "perfect"):
                raise RecipeError(f"'{chain.name}': only chains with classical or perfect CSI are tuned")
            if chain.robust and chain.source in ("perfect", self.label + OFF):
                raise RecipeError(f"'{chain.name}': nobody knows the errors of that CSI, so no robust form applies")
        return list(dict.fromkeys(chains))

    def _check(self) -> None:
        if not self.scenarios or not self.speeds_kmh or not self.users:
            raise RecipeError("scenarios, speeds_kmh and users must not be empty: they are the cells")
        for name, low in (("history", 2), ("horizon", 1), ("threads", 1), ("tone_step", 1), ("links_per_drop", 1)):
            if getattr(self, name) < low:
                raise RecipeError(f"{name} is {getattr(self, name)}, but must be at least {low}")
        for users in (*self.users, *self.sweep_users):
            if users < 1:
                raise RecipeError(f"groups of {users} users make no sense; give at least 1")
        for users in self.users:
            if self.links_per_drop % users:
                raise RecipeError(
                    f"groups of {users} users do not fit drops of {self.links_per_drop} links; make links_per_drop a "
                    "multiple of every group size"
                )
        for name in ("num_links", "num_tune", "num_train", "side_links"):
            if getattr(self, name) < 1 or getattr(self, name) % self.links_per_drop:
                raise RecipeError(
                    f"{name} is {getattr(self, name)}, but must be a positive multiple of links_per_drop "
                    f"({self.links_per_drop}): no drop is ever split"
                )
        if self.pilots and self.pilots_label == self.label:
            raise RecipeError(f"pilots is {self.pilots!r}, the model; name a network that reads pilots: airlam-pilots")
        if (self.sweep_users or self.csi_periods_ms) and not self.sweep_speeds_kmh:
            raise RecipeError("sweep_speeds_kmh is empty, but the sweep over users takes its first speed")

    def cells(self) -> list[Cell]:
        """Every cell, in the order they run: the headline first."""
        from airlam.channels import load_channel

        def cell(group: str, data: str, speed: float, snr: float, **fields: Any) -> Cell:
            drops = fields.pop("links_per_drop", self.links_per_drop)
            overrides = {"speed_kmh": speed, **self.channel_overrides, **fields.pop("recipe", {})}
            links = fields.pop("num_links", self.side_links)
            values: dict[str, Any] = dict(
                group=group,
                data=data,
                recipe=load_channel({**load_channel(data).recipe, **overrides, "links_per_drop": drops}).recipe,
                speed_kmh=float(speed),
                csi_snr_db=float(snr),
                num_links=-(-links // drops) * drops,
                num_tune=-(-(self.num_train if group in ("static", "pilots") else self.num_tune) // drops) * drops,
                history=self.history,
                horizon=self.horizon,
                num_future=self.horizon,
                methods=tuple(chain.name for chain in self._chains_of(group)),
                users=self.users,
                transmit_snr_db=self.transmit_snr_db,
                headline_snr_db=self.headline_snr_db,
                tone_step=self.tone_step,
                seed=self.seed,
            )
            return Cell(**(values | fields))

        first, out = self.scenarios[0], []
        at = self.sweep_speeds_kmh[0] if self.sweep_speeds_kmh else self.speeds_kmh[0]
        one, small = self.users[:1], (self.headline_snr_db,)
        for data in self.scenarios:
            for speed in self.speeds_kmh:
                timed = data == first and speed == self.speeds_kmh[0]
                fields = dict(num_links=self.num_links, headline=True, timed=timed)
                out.append(cell("cell", data, speed, self.csi_snr_db, **fields))
        for snr in self.sweep_csi_snr_db:
            out.append(cell("cell", first, at, snr, transmit_snr_db=small))
        for speed in self.sweep_speeds_kmh:
            if speed not in self.speeds_kmh:
                out.append(cell("cell", first, speed, self.csi_snr_db, transmit_snr_db=small))
        for label, recipe in self.arrays.items():
            for data in self.scenarios:
                fields = dict(recipe=dict(recipe), label=label, transmit_snr_db=small)
                out.append(cell("array", data, at, self.csi_snr_db, **fields))
        if self.sweep_users:
            fields = dict(users=self.sweep_users, links_per_drop=self.sweep_users[-1], transmit_snr_db=small)
            out.append(cell("users", first, at, self.csi_snr_db, **fields))
        for period in self.csi_periods_ms:
            fields = dict(horizon=1, num_future=1, users=one, transmit_snr_db=small)
            recipe = {"slot_duration": 1e-3 * period}
            out.append(cell("csi_period", first, self.period_speed_kmh, self.csi_snr_db, recipe=recipe, **fields))
        if self.age_speed_kmh is not None:
            slots = round(10e-3 / load_channel(first).slot_duration) + self.horizon - 1
            fields = dict(horizon=16, num_future=max(16, slots), users=one, transmit_snr_db=small, timed=True)
            out.append(cell("age", first, self.age_speed_kmh, self.csi_snr_db, **fields))
        for data in self.scenarios if self.static_csi_snr_db else []:
            for snr in self.static_csi_snr_db:
                out.append(cell("static", data, 0.0, snr, history=2, horizon=1, num_future=1, transmit_snr_db=small))
        for data in self.scenarios if self.num_pilots else []:
            ports = load_channel({**load_channel(data).recipe, **self.channel_overrides}).num_tx_ant
            if not all(1 <= count <= ports for count in self.num_pilots):
                raise RecipeError(f"num_pilots is {self.num_pilots}, but {data} has {ports} ports: give 1 to {ports}")
            for snr in self.pilot_snr_db:
                for count in self.num_pilots:
                    fields = dict(history=1, horizon=1, num_future=1, transmit_snr_db=small, num_pilots=count)
                    out.append(cell("pilots", data, 0.0, snr, label=f"{count} pilots", **fields))
        return out

    def _chains_of(self, group: str) -> list[Chain]:
        return {"static": self.static_chains, "pilots": self.pilot_chains}.get(group, self.chains)

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet, and write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Every finished cell is a file in ``out/cells``; an interrupted benchmark goes on where it stopped.

        Returns:
            The path of ``report.html``.
        """
        from airlam.models import AirlamModel

        out = Path(out)
        with cpu_threads(self.threads):
            model = build_row(self.label, self.model)
            if not hasattr(model, "predict_with_covariance") and any(self._needs_covariance(c) for c in self.chains):
                raise RecipeError(
                    f"{self.label} has no predict_with_covariance, so it can stand only before precoders that are not "
                    "told the errors of CSI, like '{model} + rzf'"
                )
            if self.static_csi_snr_db and any(c.source == self.label for c in self.static_chains):
                if not isinstance(getattr(model, "model", None), AirlamModel):
                    raise RecipeError(
                        f"{self.label} cannot estimate the CSI of static users; set static_csi_snr_db to [] or leave "
                        "'{model}' out of static_methods"
                    )
            rows = {} if self.by_name else {self.precoder_label: self.precoder}
            learned = {name: build_row(name, what, "precoder") for name, what in (rows | self.controls).items()}
            networks: dict[str, Any] = {}
            if self.pilots:
                from airlam.models import load_pilots

                named = {self.pilots_label: self.pilots, self.pilots_label + CONTROL: self.pilots_control}
                networks = {name: load_pilots(find_checkpoint(path)) for name, path in named.items() if path}
            every = (*self.chains, *self.static_chains, *self.pilot_chains)
            own = [*outside(c.source for c in every), *outside((c.precoder for c in every), "precoder")]
            precoders = combined([*learned.values(), *own])
            other, first = fingerprint(model), {}
            if networks:
                prints = [fingerprint(SimpleNamespace(model=made)) for made in networks.values()]  # type: ignore[arg-type]
                first["pilots"] = "-".join(prints)
                first["static"] = f"{other}-{first['pilots']}"
            records = run_cells(
                self.cells(),
                lambda cell: self._run_cell(cell, model, learned, networks),
                lambda cell: f"{first.get(cell.group, other)}-{precoders}",
                out,
                cost,
            )
        results = self.results(records)
        return publish(results, out, threads=self.threads)

    def _needs_covariance(self, chain: Chain) -> bool:
        return chain.source == self.label and chain.robust and not outside([chain.precoder], "precoder")

    def _run_cell(self, cell: Cell, model: Any, learned: dict[str, Any], networks: dict[str, Any]) -> dict[str, Any]:
        start = time.perf_counter()
        links, known = cell.links("test", cell.num_links), cell.links("tune", cell.num_tune)
        chains = self._chains_of(cell.group)
        names = list(dict.fromkeys(chain.source for chain in chains))
        if cell.group == "pilots":
            sources = pilot_sources(cell, links, known, networks, names)
        else:
            h_past, seen = cell.observe(links.h, "test")[0], cell.observe(known.h, "tune")[0]
            if cell.group == "static":
                models = {self.label: model}
                sources = denoised_sources(cell, links, h_past, (known, seen), models, names, networks)
            else:
                sources = predicted_sources(cell, links, h_past, (known, seen), {self.label: model}, names)
        with torch.inference_mode():
            record = measure_chains(cell, links, sources, chains, learned, known)
        record["seconds"] = round(time.perf_counter() - start, 1)
        return record

    def results(self, records: list[dict[str, Any]]) -> Results:
        """Rows, tables, headline and notes from the records of all cells."""

        def of(group: str) -> list[dict[str, Any]]:
            return [record for record in records if record["cell"]["group"] == group]

        main = [record for record in of("cell") if record["cell"]["headline"]]
        results = Results(self.title, "beamforming", config=dict(self.config))
        timed: dict[str, Any] = next((record["methods"] for record in main if record["cell"]["timed"]), {})
        results.rows += mean_rows(main, self.bar, timed)
        for row in results.rows:
            add_best_classic_gains(row, main)
        for record in of("cell"):
            results.rows += cell_rows(record, self.bar)
        for label in self.arrays:
            mine = [record for record in of("array") if record["cell"]["label"] == label]
            for row in mean_rows(mine, self.bar, {}):
                results.rows.append(replace(row, group="array", settings={"array": label}))
        for record in of("users"):
            results.rows += cell_rows(record, self.bar)
        if periods := of("csi_period"):
            results.rows += csi_period_rows(periods)
        for record in of("age"):
            results.rows += age_rows(record, self.bar, csi_period=self.horizon)
        for snr in self.static_csi_snr_db:
            mine = [record for record in of("static") if record["cell"]["csi_snr_db"] == snr]
            best = best_classical(mine) or self.static_chains[0].name
            for row in mean_rows(mine, best, {}):
                results.rows.append(replace(row, group="static", settings={"bar": best}))
        for label in dict.fromkeys((r["cell"]["csi_snr_db"], r["cell"]["num_pilots"]) for r in of("pilots")):
            mine = [r for r in of("pilots") if (r["cell"]["csi_snr_db"], r["cell"]["num_pilots"]) == label]
            for row in mean_rows(mine, "lmmse + rzf", {}):
                results.rows.append(replace(row, group="pilots", settings={"pilots": label[1]}))
        for row in results.rows:  # a capacity says nothing of single users
            if row.method.endswith("+ dpc"):
                row.figures.pop("se_5pct", None)
        results.recipes = {record["cell"]["data"]: record["cell"]["recipe"] for record in main}
        results.headline = self.headline(results)
        results.extras = {
            "focus": self.focus,
            "bar": self.bar,
            "tables": self.tables(results),
            "compared": self._compared(main),
            "latency_text": "median of predicting one user and precoding one slot of a group, one CPU thread",
            "mean_text": f"Means over {len(main)} cells at {self.csi_snr_db:g} dB CSI SNR and "
            f"{self.headline_snr_db:g} dB transmit SNR.",
        }
        results.notes = list(NOTES)
        return results

    def headline(self, results: Results) -> str:
        """The learned chain against the best classical pair, and how much of the gap to perfect CSI it closes."""
        rows = {row.method: row.figures for row in results.select(group="mean")}
        words = []
        for users in self.users:
            name = f"sum_se_k{users}"
            gain = rows[self.focus].get(f"{name}_gain")
            if gain is None:
                continue
            low, high = gain.ends
            text = f"{users} users: {rows[self.focus][name].number:.2f} against {rows[self.bar][name].number:.2f} "
            text += f"bit/s/Hz ({gain.number:+.2f}, 95 % interval {low:+.2f} to {high:+.2f}: {verdict(gain)})"
            if (share := gap_closed(rows, name, self.focus, self.bar)) is not None:
                text += f", {100 * share:.0f} % of what it leaves to {FULL}"
            best = rows[self.focus].get(f"{name}_best_classic_gain")
            if best is not None and best.note != self.bar:
                low, high = best.ends
                text += f"; over the strongest classical chain run here, {look(best.note).label}, {best.number:+.2f} "
                text += f"({low:+.2f} to {high:+.2f}: {verdict(best)}"
                if (share := gap_closed(rows, name, self.focus, best.note)) is not None:
                    text += f", {100 * share:.0f} % of what that leaves"
                text += ")"
            words.append(text)
        return f"{look(self.focus).label} against {look(self.bar).label}, sum-SE: " + "; ".join(words) + "."

    def tables(self, results: Results) -> list[dict[str, Any]]:
        """Shares of the gap, other arrays, users, static users, as plain texts."""
        out = []
        rows = {row.method: row.figures for row in results.select(group="mean")}
        cells = [row for row in results.select(group="cell", csi_snr_db=self.csi_snr_db)]
        keys = list(dict.fromkeys((row.data, row.speed_kmh) for row in cells))
        for users in self.users:
            name, lines = f"sum_se_k{users}", []
            for method in order(list(rows)):
                line = [look(method).label, *self._with_share(rows, name, method)]
                if users == self.users[0]:
                    worst = rows[method].get("se_5pct")
                    line.append(f"{worst.number:.2f}" if worst is not None else "-")
                for key in keys:
                    here = {row.method: row.figures for row in cells if (row.data, row.speed_kmh) == key}
                    line.append(self._with_share(here, name, method)[0] if method in here else "-")
                lines.append(line)
            columns = ["method", "mean", f"gain over {look(self.bar).label}"]
            columns += ["5 %-user SE"] if users == self.users[0] else []
            columns += [f"{d}, {v:g} km/h" for d, v in keys]
            text = f"In brackets: share of the gap from {look(self.bar).label} to {FULL} that is closed. "
            text += _rests_on(cells[0])
            title = f"Sum-SE of {users} users [bit/s/Hz]"
            out.append({"title": title, "columns": columns, "lines": lines, "text": text})
        out += self._users_table(results)
        for group, label, what in (("array", "array", "Other arrays, means over scenarios"),):
            found = results.select(group=group)
            names = [f"sum_se_k{users}" for users in self.users]
            lines = []
            for kind in dict.fromkeys(row.settings[label] for row in found):
                mine = {row.method: row.figures for row in found if row.settings[label] == kind}
                for place, method in enumerate(order(list(mine))):
                    texts = [t for name in names for t in self._with_share(mine, name, method)]
                    lines.append([kind if place == 0 else "", look(method).label, *texts])
            if lines:
                columns = ["array", "method", *(t for k in self.users for t in (f"{k} users", "gain"))]
                text = f"{found[0].num_links} links from {found[0].num_drops} drops for each array."
                out.append({"title": f"{what}: sum-SE [bit/s/Hz]", "columns": columns, "lines": lines, "text": text})
        found = results.select(group="static")
        for snr in dict.fromkeys(row.csi_snr_db for row in found):
            mine = {row.method: row for row in found if row.csi_snr_db == snr}
            bar = next(iter(mine.values())).settings["bar"]
            figures = {method: row.figures for method, row in mine.items()}
            lines = [
                [look(m).label, *(t for k in self.users for t in self._with_share(figures, f"sum_se_k{k}", m, bar))]
                for m in order(list(mine))
            ]
            columns = ["method", *(t for k in self.users for t in (f"{k} users", f"gain over {look(bar).label}"))]
            text = f"One noisy slot, users that do not move. In brackets: share of the gap to {FULL}. "
            row = next(iter(mine.values()))
            text += f"{row.num_links} links from {row.num_drops} drops in all."
            title = f"Static users, CSI SNR {snr:g} dB: sum-SE [bit/s/Hz]"
            out.append({"title": title, "columns": columns, "lines": lines, "text": text})
        return out + self._pilot_tables(results)

    def _users_table(self, results: Results) -> list[dict[str, Any]]:
        """Sum-SE over the number of users."""
        found = {row.method: row.figures for row in results.select(group="users")}
        if not found:
            return []
        lines = []
        for method in order(list(found)):
            texts = [self._with_share(found, f"sum_se_k{users}", method) for users in self.sweep_users]
            lines.append([look(method).label, *(f"{value}, {gain}" for value, gain in texts)])
        row = results.select(group="users")[0]
        columns = ["method", *(f"{users} users" for users in self.sweep_users)]
        text = f"{row.data}, {row.speed_kmh:g} km/h. With the gain over {look(self.bar).label}. {_rests_on(row)}"
        return [{"title": "Sum-SE over users [bit/s/Hz]", "columns": columns, "lines": lines, "text": text}]

    def _pilot_tables(self, results: Results) -> list[dict[str, Any]]:
        """Sum-SE over the number of pilots, a table for each SNR and group size."""
        out, found = [], results.select(group="pilots")
        for snr in dict.fromkeys(row.csi_snr_db for row in found):
            here = [row for row in found if row.csi_snr_db == snr]
            counts = list(dict.fromkeys(row.settings["pilots"] for row in here))
            for users in self.users:
                name, lines = f"sum_se_k{users}", []
                for method in order([row.method for row in here]):
                    line = [look(method).label]
                    for count in counts:
                        figures = next(r.figures for r in here if r.method == method and r.settings["pilots"] == count)
                        bar = next(
                            r.figures for r in here if r.method == "lmmse + rzf" and r.settings["pilots"] == count
                        )
                        text, gain = f"{figures[name].number:.2f}", figures.get(f"{name}_gain")
                        if gain is not None:
                            share = [100 * x / bar[name].number for x in (gain.number, *gain.ends)]
                            text += f" ({share[0]:+.0f} %, {share[1]:+.0f} to {share[2]:+.0f})"
                        line.append(text)
                    lines.append(line)
                columns = ["method", *(f"{count} pilots" for count in counts)]
                title = f"From pilots at {snr:g} dB: sum-SE of {users} static users [bit/s/Hz]"
                text = "In brackets: over LMMSE with the training covariance + RZF, paired, with 95 % intervals. "
                text += f"{here[0].num_links} links from {here[0].num_drops} drops for each number of pilots."
                out.append({"title": title, "columns": columns, "lines": lines, "text": text})
        return out

    def _with_share(
        self, rows: Mapping[str, dict[str, Figure]], name: str, method: str, bar: str | None = None
    ) -> tuple[str, str]:
        """Sum-SE with the share of the gap closed, and the paired gain, as texts."""
        figures, bar = rows[method], bar or self.bar
        if name not in figures:
            return "-", "-"
        share = gap_closed(rows, name, method, bar) if method != bar else None
        text = f"{figures[name].number:.2f}" + (f" ({round(100 * share)} %)" if share is not None else "")
        gain = figures.get(f"{name}_gain")
        if gain is None:
            return text, "-"
        return text, f"{gain.number:+.2f} ({gain.ends[0]:+.2f} to {gain.ends[1]:+.2f})"

    def _compared(self, main: list[dict[str, Any]]) -> list[str]:
        cell = main[0]["cell"]
        recipe, links, drops = cell["recipe"], len(main[0]["drop"]), len(set(main[0]["drop"]))
        return [
            f"From {self.history} measured CSI occasions, {1e3 * recipe['slot_duration']:g} ms apart, the next "
            f"{self.horizon} slots are believed and precoded for; rates are those on the true channel. CSI SNR "
            f"{self.csi_snr_db:g} dB, transmit SNR {self.headline_snr_db:g} dB, users scaled to unit mean gain.",
            f"{len(main)} cells: {', '.join(self.scenarios)} at {', '.join(f'{v:g}' for v in self.speeds_kmh)} km/h, "
            f"{links} links from {drops} drops in each. Every chain sees the same links and the same noise. Classical "
            f"predictors and precoders are tuned in each cell, on {cell['num_tune']} links of other drops.",
            f"The learned chain is {self.focus}; the bar is {look(self.bar).label}: of regularised zero forcing and "
            "WMMSE with any loading, and their robust forms with the covariance of the CSI's errors (one for all users "
            "or one for each), the best on the validation drops, chosen for each number of users and each SNR.",
        ]


def cost(cell: Cell) -> float:
    """Rough share of a cell in the whole run, for the estimate of the time left."""
    return cell.num_links * len(cell.transmit_snr_db) + 2 * cell.num_tune * (cell.group not in ("static", "pilots"))


def add_best_classic_gains(row: Row, records: list[dict[str, Any]]) -> None:
    """The paired gain over the strongest classical chain, for each size of groups; its note names the chain."""
    if not is_learned(row.method):
        return
    for users in records[0]["group_drop"]:
        best = best_classical(records, users)
        if best is not None:
            row.figures[f"sum_se_k{users}_best_classic_gain"] = mean_sum_se_gain(records, row.method, best, users)


def best_classical(records: list[dict[str, Any]], users: str | None = None) -> str | None:
    """Of the chains that were run, the one with classical CSI and classical precoder of the highest mean sum-SE, of
    the smallest groups unless ``users`` says which; None where no such chain was run."""
    users = users or next(iter(records[0]["group_drop"]))

    def value(method: str) -> float:
        rates = [torch.tensor(record["methods"][method]["groups"][users]["user_rates"]) for record in records]
        return sum(float(r.sum(1).mean()) for r in rates)

    classical = (*registered("predictor", "classical", built=True), *DENOISED)
    known = [m for m in records[0]["methods"] if m.split(" + ")[0] in classical and not is_learned(m)]
    return max(known, key=value, default=None)


def gap_closed(rows: Mapping[str, dict[str, Figure]], name: str, method: str, bar: str) -> float | None:
    """The share of what ``bar`` leaves to perfect CSI that ``method`` closes; perfect CSI with the best classical
    precoder, chosen in each cell as for the baseline (:data:`YARDSTICK`). None where it was not run."""
    if YARDSTICK not in rows or bar not in rows or method.startswith("perfect"):
        return None
    low, high = rows[bar][name].number, rows[YARDSTICK][name].number
    return (rows[method][name].number - low) / (high - low) if high > low else None


def _rests_on(row: Row) -> str:
    return f"{row.num_links} links from {row.num_drops} drops in each cell."


NOTES = (
    "Measured: computed on simulated channels, or timed, in this run. Modelled: derived from measured figures by the "
    "formula in the caption.",
    "Intervals: 95 %, bootstrap over drops; differences are paired, on the same links and noise.",
    "The perfect-CSI rows know the true channel of the slot they serve. Dirty paper coding is the sum capacity.",
    "Robust precoders and the learned one are told the covariance of the CSI's error: a learned source says it for "
    "each user, slot and tone; for a classical one it is the mean over the validation drops. A tuned precoder may also "
    "take, for each user, a multiple of the covariance of its own history plus white noise, fitted on these drops.",
    f"Shares of the gap count to {FULL}.",
    "WMMSE: rates after 100 iterations (converged to about 0.1 bit/s/Hz), latency of 10.",
    "Latency: predicting one user (with the covariance where it is used) and precoding one slot of a group on the "
    "tones of the table, on one thread.",
)
