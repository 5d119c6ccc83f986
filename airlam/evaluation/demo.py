"""The demo: adapt the shipped model to one site with LoRA, and report what that is worth.

A *site* is one snapshot of many users whose channels are spatially consistent: users who stand close see similar
clusters. Some of them adapt the model, the others judge it.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch.utils.data import DataLoader, IterableDataset

from airlam.channels import LinkBatch, load_channel
from airlam.csi import measure, normalise
from airlam.evaluation.benchmarks.channel_prediction.tables import NOTES
from airlam.evaluation.engine.cell import Cell, Contender
from airlam.evaluation.engine.contenders import OFF, of_predictor, tuned, without_correction
from airlam.evaluation.engine.measure import measure_cell, picture, predict_all
from airlam.evaluation.engine.summarise import cell_rows, mean_rows
from airlam.evaluation.engine.timing import BUSY, is_busy
from airlam.evaluation.report.html import write_report
from airlam.evaluation.report.sentences import details, headline
from airlam.evaluation.report.style import order, short
from airlam.evaluation.report.verdicts import banner
from airlam.evaluation.rows import Results, environment
from airlam.evaluation.runner import narrator
from airlam.interfaces import Predictor, RecipeError
from airlam.io import check_folder
from airlam.metrics import cpu_threads

BASELINES = ("mean", "pad", "ar", "eigen-ar")


class SiteWindows(IterableDataset):
    """Endless training batches from the adaptation users: random users, random windows, fresh noise.

    Args:
        links: the users, with at least as many slots as a window has.
        demo: history, horizon, SNR, batch size and seed; the same seed gives the same batches.
    """

    def __init__(self, links: LinkBatch, demo: SiteDemo):
        self.links, self.demo = links, demo

    def __iter__(self) -> Iterator[dict[str, Any]]:
        links, demo = self.links, self.demo
        generator = torch.Generator().manual_seed(demo.seed)
        window = demo.history + demo.horizon
        while True:
            users = torch.randperm(len(links), generator=generator)[: demo.batch_size]
            first = int(torch.randint(links.h.shape[1] - window + 1, (1,), generator=generator))
            h = links.h[users, first : first + window]
            past = h[:, : demo.history]
            yield {
                "h_past": measure(past, demo.csi_snr_db, generator),
                "h_past_true": past,
                "h_future": h[:, demo.history :],
                "csi_snr_db": torch.full((len(users),), float(demo.csi_snr_db)),
                "speed": links.speed[users],
                "index": users,
                "drop": links.drop[users],
                "port_shape": links.port_shape,
                "slot_duration": links.slot_duration,
                "subcarrier_spacing": links.subcarrier_spacing,
                "carrier_frequency": links.carrier_frequency,
            }


class StepBar(L.Callback):
    """One bar over the steps, with an estimate: there are no epochs here to count."""

    def __init__(self, steps: int):
        self.bar = Progress(
            TextColumn("        "),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            transient=True,
        )
        self.task = self.bar.add_task("", total=steps)

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Show it."""
        self.bar.start()

    def on_train_batch_end(self, *_: Any) -> None:
        """One step further."""
        self.bar.advance(self.task)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Take it away, also after an interruption."""
        self.bar.stop()


class SiteDemo:
    """Generate a site with Sionna, adapt the shipped model to it, and compare on the site's other users.

    Args:
        model: a shipped checkpoint's name or a checkpoint folder.
        channel: channel recipe of the site. channel_overrides: keys to change in it.
        num_adapt, num_held_out: users that adapt the model, and users that judge it.
        num_slots: slots generated for each user; adaptation takes windows anywhere in them.
        speed_kmh: users draw their speed from this range. num_speed_classes: rows of the report.
        csi_snr_db: SNR of the measured histories. transmit_snr_db: of the spectral efficiencies in tables.
        group_size: users served together.
        history, horizon: slots seen and predicted.
        lora_rank, steps, batch_size, learning_rate: of the adaptation.
        random_start: also train a network of the same shape from random weights, all of them, on the same batches.
        num_tune: adaptation users that tune the classical methods, in each speed class.
        seed: of everything.
        threads: CPU threads for training and evaluation (None: as many as there are idle cores, at most 4); latency is
            measured on one.

    Raises:
        RecipeError: sizes that do not fit each other.
    """

    def __init__(
        self,
        model: str = "airlam-tiny",
        channel: str = "umi_nlos",
        channel_overrides: dict[str, Any] | None = None,
        num_adapt: int = 384,
        num_held_out: int = 96,
        num_slots: int = 40,
        speed_kmh: Sequence[float] = (3.0, 60.0),
        num_speed_classes: int = 3,
        csi_snr_db: float = 20.0,
        transmit_snr_db: float = 20.0,
        group_size: int = 4,
        history: int = 16,
        horizon: int = 4,
        lora_rank: int = 16,
        steps: int = 250,
        batch_size: int = 16,
        learning_rate: float = 1e-3,
        random_start: bool = True,
        num_tune: int = 32,
        seed: int = 1,
        threads: int | None = None,
    ):
        self.config = {name: value for name, value in locals().items() if name != "self"}
        self.model, self.label, self.channel = model, Path(model).name, channel
        self.channel_overrides = dict(channel_overrides or {})
        self.num_adapt, self.num_held_out, self.num_slots = num_adapt, num_held_out, num_slots
        self.speed_kmh, self.num_speed_classes = [float(v) for v in speed_kmh], num_speed_classes
        self.csi_snr_db, self.transmit_snr_db, self.group_size = csi_snr_db, float(transmit_snr_db), group_size
        self.history, self.horizon = history, horizon
        self.lora_rank, self.steps, self.batch_size, self.learning_rate = lora_rank, steps, batch_size, learning_rate
        self.random_start, self.num_tune, self.seed, self.threads = random_start, num_tune, seed, threads
        if num_held_out < 1 or num_held_out % (num_speed_classes * group_size):
            raise RecipeError(
                f"num_held_out is {num_held_out}, but must be a multiple of num_speed_classes x group_size "
                f"({num_speed_classes} x {group_size}): every speed class is served in whole groups"
            )
        if num_slots < history + horizon:
            raise RecipeError(f"num_slots is {num_slots}, but must be at least history + horizon = {history + horizon}")
        if num_adapt < batch_size or steps < 1:
            raise RecipeError(
                f"steps must be at least 1 and num_adapt at least batch_size, got {steps} and {num_adapt}"
            )

    def run(self, out: str | Path) -> Path:
        """Run everything; write ``results.json``, ``report.html``, ``plots/`` and ``adapter/`` into ``out``.

        Returns:
            The path of ``report.html``, also printed.
        """
        from rich.console import Console

        from airlam.loading import load_predictor
        from airlam.models import save_lora

        out, console = check_folder(out), Console()
        say, threads = narrator(console), self.threads or idle_cores()
        with cpu_threads(threads):
            shipped = load_predictor(self.model)
            users = self.num_adapt + self.num_held_out
            say(f"Sionna generates the channels of {users} users of one site, {self.channel}")
            adapt, held_out = self.site()
            say(f"{self.label} is adapted by LoRA of rank {self.lora_rank}: {self.num_adapt} users, {self.steps} steps")
            adapted = self.adapt(adapt, self.lora_rank)
            save_lora(adapted, out / "adapter")
            learned = {
                self.label + OFF: (without_correction(shipped), 0),
                self.label: (shipped, 0),
                f"{self.label}:adapted": _predictor(adapted),
            }
            if self.random_start:
                say("for comparison, a network of the same shape with random weights is trained on the same batches")
                learned[f"{self.label}:random-start"] = _predictor(self.adapt(adapt, None))
            say(f"classical methods are tuned, then all methods are evaluated on the other {self.num_held_out} users")
            records = self.records(adapt, held_out, learned)
        results = self.results(records)
        results.environment = environment(threads=threads)
        results.save(out / "results.json")
        report = write_report(results, out)
        say("done")
        _print_table(console, results)
        console.print(f"\n{banner(results)}", style="yellow", markup=False, highlight=False)
        console.print(f"\n{results.headline}\n", markup=False, highlight=False)
        console.print(f"Report: {report}   adapter: {out / 'adapter'}", soft_wrap=True, markup=False, highlight=False)
        return report

    def site(self) -> tuple[LinkBatch, LinkBatch]:
        """Adaptation users and held-out users of one spatially consistent snapshot."""
        users = self.num_adapt + self.num_held_out
        recipe = {**load_channel(self.channel).recipe, **self.channel_overrides, "speed_kmh": self.speed_kmh}
        recipe |= {"spatial_consistency": True, "links_per_drop": users}
        links = load_channel(recipe).sample(users, self.num_slots, seed=self.seed)
        shuffled = torch.randperm(users, generator=torch.Generator().manual_seed(self.seed))
        return links[shuffled[: self.num_adapt]], links[shuffled[self.num_adapt :]]

    def adapt(self, links: LinkBatch, lora_rank: int | None) -> torch.nn.Module:
        """The shipped model with trained adapters, or (no rank) a network of its shape trained from random weights."""
        from airlam.loading import load_predictor
        from airlam.tasks import ChannelPrediction

        with _quiet():
            L.seed_everything(self.seed, verbose=False)
            options: dict[str, Any] = dict(learning_rate=self.learning_rate, warmup_steps=max(1, self.steps // 10))
            if lora_rank is not None:
                task = ChannelPrediction(checkpoint=self.model, lora_rank=lora_rank, **options)
            else:
                task = ChannelPrediction(**options)
                task.model = load_predictor(self.model).model.untrained().train()  # type: ignore[attr-defined]
            trainer = L.Trainer(
                accelerator="cpu",
                max_steps=self.steps,
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
                gradient_clip_val=1.0,
                callbacks=[StepBar(self.steps)],
            )
            trainer.fit(task, DataLoader(SiteWindows(links, self), batch_size=None))
        return task.model.eval()

    def records(
        self, adapt: LinkBatch, held_out: LinkBatch, learned: dict[str, tuple[Any, int]]
    ) -> list[dict[str, Any]]:
        """One record for each speed class of the held-out users; see ``measure_cell``."""
        window, records = self.history + self.horizon, []
        for number, users in enumerate(held_out.speed.argsort().chunk(self.num_speed_classes)):
            part = held_out[users]
            part.h = normalise(part.h[:, :window])[0]
            cell = self._cell(part, [*learned], timed=number == self.num_speed_classes // 2)
            context = {
                "slot_duration": part.slot_duration,
                "subcarrier_spacing": part.subcarrier_spacing,
                "carrier_frequency": part.carrier_frequency,
            }
            # those who adapted, of like speed: as near to the held-out users as a baseline can be tuned
            nearest = (adapt.speed - part.speed.mean()).abs().argsort()[: self.num_tune]
            known = adapt.h[nearest, :window]
            tuning = (cell.observe(known, "tune")[0], known[:, self.history :])
            contenders = [of_predictor("hold", load_hold(), context, part.port_shape)]
            for name in BASELINES:
                predictor, settings = tuned(name, *tuning, port_shape=part.port_shape, context=context)
                contenders.append(of_predictor(name, predictor, context, part.port_shape, settings))
            for name, (predictor, trained) in learned.items():
                contenders.append(of_predictor(name, predictor, context, part.port_shape, trained=trained))
            contenders.append(Contender("perfect", lambda *_: torch.empty(0), timed=False))
            h_past, _ = cell.observe(part.h, "test")
            record = measure_cell(cell, part, h_past, contenders)
            # one site is one drop: intervals are over its users, and over its groups
            record["drop"] = list(range(len(part)))
            record["group_drop"] = {k: list(range(len(drops))) for k, drops in record["group_drop"].items()}
            if cell.timed:
                shown = [c for c in contenders if c.name in ("ar", f"{self.label}:adapted")]
                few = {c.name: predict_all(c, h_past[:1], self.horizon) for c in shown}
                record["picture"] = picture(part, self.history, few)
            records.append(record)
        return records

    def _cell(self, part: LinkBatch, learned: list[str], *, timed: bool) -> Cell:
        return Cell(
            group="cell",
            data=f"{self.channel}_site",
            recipe={key: value for key, value in part.recipe.items() if key != "seed"},
            speed_kmh=round(3.6 * float(part.speed.mean())),
            csi_snr_db=self.csi_snr_db,
            num_links=len(part),
            num_tune=self.num_tune,
            history=self.history,
            horizon=self.horizon,
            num_future=self.horizon,
            methods=("hold", *BASELINES, *learned, "perfect"),
            users=(self.group_size,),
            transmit_snr_db=tuple(sorted({0.0, 10.0, 20.0, 30.0, self.transmit_snr_db})),
            headline_snr_db=self.transmit_snr_db,
            tone_step=4,
            seed=self.seed,
            headline=True,
            timed=timed,
        )

    def _banner(self) -> str:
        usual = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        small = [
            f"{name} {getattr(self, name)} instead of {usual[name]}"
            for name in ("num_adapt", "num_held_out", "steps")
            if getattr(self, name) < usual[name]
        ]
        quick = f"Quick run ({', '.join(small)}): do not quote its figures. " if small else ""
        return f"{quick}A demonstration on one site: its intervals and verdicts say nothing about other sites."

    def results(self, records: list[dict[str, Any]]) -> Results:
        """Rows, headline and notes."""
        focus = f"{self.label}:adapted"
        results = Results(f"{self.label}, adapted to one site", "channel_prediction", config=dict(self.config))
        timed = next(record["methods"] for record in records if record["cell"]["timed"])
        results.rows += mean_rows(records, "ar", timed)
        for record in records:
            results.rows += cell_rows(record, "ar")
        results.recipes = {records[0]["cell"]["data"]: records[0]["cell"]["recipe"]}
        results.extras = {"resampled": "users"}
        results.headline = headline(results, focus)
        speeds = ", ".join(f"{record['cell']['speed_kmh']:g}" for record in records)
        results.extras = {
            "focus": focus,
            "resampled": "users",
            "banner": self._banner(),
            "details": details(results, focus),
            "compared": [
                f"One site made by Sionna: {self.num_adapt + self.num_held_out} users of one {self.channel} base "
                f"station in one spatially consistent snapshot, {self.speed_kmh[0]:g} to {self.speed_kmh[-1]:g} "
                f"km/h. The model is adapted on {self.num_adapt} of them; all methods are evaluated on the other "
                f"{self.num_held_out}, in {self.num_speed_classes} classes of speed with means of {speeds} km/h.",
                f"{self.history} measured CSI occasions at {self.csi_snr_db:g} dB are given, the next {self.horizon} "
                f"are predicted. Adaptation: LoRA of rank {self.lora_rank}, {self.steps} steps of {self.batch_size} "
                "links. “Random start” is a network of the same shape with random weights, all of which are trained "
                "on the same batches for the same steps: the difference to it is what pretraining is worth. "
                f"Classical methods are tuned in each class on {self.num_tune} adaptation users of like speed.",
            ],
            "mean_text": f"Means over {len(records)} classes of speed. Spectral efficiency at "
            f"{self.transmit_snr_db:g} dB transmit SNR, groups of {self.group_size} users.",
            "picture": next(record["picture"] for record in records if "picture" in record),
        }
        results.notes = [
            NOTES["tags"],
            NOTES["nmse"],
            "Intervals: 95 %, bootstrap over the users (or groups) of this one site: they hold for other users of this "
            "site, and say nothing about other sites. Differences are paired, on the same users and noise.",
            NOTES["sum_se"],
            NOTES["single"],
            NOTES["latency"],
        ]
        return results


def run(out: str | Path = "outputs/demo", **settings: Any) -> Path:
    """The demo; ``settings`` are the arguments of :class:`SiteDemo`. Returns the path of ``report.html``."""
    return SiteDemo(**settings).run(out)


def idle_cores(most: int = 4) -> int:
    """Cores that nobody uses right now, at least 1: threads that wait for a busy core are slower than one alone."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, min(most, (os.cpu_count() or 1) - round(load)))


def load_hold() -> Predictor:
    """Outdated CSI."""
    from airlam.loading import load_predictor

    return load_predictor("hold")


def _predictor(network: torch.nn.Module) -> tuple[Predictor, int]:
    """A trained network as a predictor, adapters merged, and how many weights were trained."""
    from airlam.models import AirlamModel, AirlamPredictor

    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    model = network if isinstance(network, AirlamModel) else network.merge_and_unload()  # type: ignore[operator]
    return AirlamPredictor(model), trained


def _print_table(console: Any, results: Results) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    rows = {row.method: row for row in results.select(group="mean")}
    sum_se = next(name for name in next(iter(rows.values())).figures if name.startswith("sum_se_k"))
    table = Table(title=escape(results.title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("method", no_wrap=True)
    for name in ("NMSE", "gain", "95 % interval", "sum-SE", "p50"):
        table.add_column(name, justify="right", no_wrap=True)
    for method in order(list(rows)):
        figures = rows[method].figures
        gain, p50 = figures.get("gain_cells_db"), figures.get("latency_p50_ms")
        cells = [
            f"{figures['nmse_cells_db'].number:.2f}" if "nmse_cells_db" in figures else "",
            f"{gain.number:+.2f}" if gain else "",
            f"{gain.ends[0]:+.2f} to {gain.ends[1]:+.2f}" if gain and gain.interval else "",
            f"{figures[sum_se].number:.2f}",
            f"{p50.number:.2f}{'*' if is_busy(p50) else ''}" if p50 else "",
        ]
        table.add_row(escape(short(method)), *cells, style="bold" if method == results.extras["focus"] else "")
    console.print(table)
    units = "NMSE and its gain over the tuned AR [dB], sum-SE [bit/s/Hz], median latency (p50) [ms]"
    console.print(units, style="dim", markup=False, highlight=False)
    if any(is_busy(row.figures.get("latency_p50_ms")) for row in rows.values()):
        text = f"*{BUSY}: other programs used the processor during the timing; an idle machine is faster"
        console.print(text, style="dim", markup=False, highlight=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice on accelerators and loader workers is not for who watches a demo."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
