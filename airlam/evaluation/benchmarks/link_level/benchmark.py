"""Coded links: whether an advantage in spectral efficiency survives a real code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from airlam.evaluation.benchmarks.beamforming.chains import (
    GROUPS_AT_ONCE,
    Served,
    Tuned,
    chain_text,
    fill_in,
    halves,
    parse_chain,
    predicted_sources,
    served,
    tones_of,
)
from airlam.evaluation.engine import statistics
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.contenders import OFF, build_row, row_of
from airlam.evaluation.engine.fingerprint import combined, outside
from airlam.evaluation.engine.measure import run_cells
from airlam.evaluation.engine.spectral_efficiency import Groups, group_users
from airlam.evaluation.engine.summarise import new_row
from airlam.evaluation.report.html import publish
from airlam.evaluation.report.style import look, order
from airlam.evaluation.report.verdicts import verdict
from airlam.evaluation.rows import Figure, Results, Row
from airlam.interfaces import RecipeError
from airlam.methods import describe, find, is_own
from airlam.methods import names as registered
from airlam.metrics import cpu_threads

TUNING_TONES = 4  # precoders are tuned on every 4th of the tones that carry data


class LinkLevelBenchmark:
    """Block error rate and throughput of chains of CSI and precoder over a 5G NR coded OFDM link.

    Every slot of the horizon carries one transport block to each user of a group. A chain sends all blocks of a speed
    and an SNR with one entry of the MCS table (slow link adaptation): the one of the highest throughput on
    ``num_choose`` links of other drops, which count for nothing else.

    Args:
        model, precoder: the learned predictor and precoder: shipped names, folders, or your own, as there.
        methods: chains, as in :class:`airlam.evaluation.BeamformingBenchmark`. bar: what gains are relative to.
        scenario: a channel recipe's name. speeds_kmh: at least one. users: of a group, one drop each.
        csi_snr_db, history, horizon, num_tune: as there. num_links: links that are judged, at each speed.
        num_choose: links of other drops, on which the MCS is chosen and the curves of block error rate are measured.
        transmit_snr_db: of the curves. mcs: indices tried. mcs_table: see :class:`airlam.link.CodedLink`.
        tone_step: every n-th subcarrier carries data. num_symbols: of a slot that carry data.
        channel_overrides, seed, threads, quick, title: as there.

    Raises:
        RecipeError: an unknown method, or sizes that do not fit.

    Example:
        >>> LinkLevelBenchmark(precoder="wmmse", methods=["ar + rzf", "{model} + rzf"], bar="ar + rzf").users
        4
    """

    def __init__(
        self,
        model: Any = "airlam-tiny",
        precoder: Any = "airlam-precoder",
        methods: Sequence[Any] = ("ar + rzf", "ar + tuned", "{model} + rzf", "{model} + {precoder}", "perfect + rzf"),
        bar: Any = "ar + tuned",
        scenario: str = "uma_nlos",
        speeds_kmh: Sequence[float] = (30.0, 100.0),
        users: int = 4,
        csi_snr_db: float = 20.0,
        history: int = 16,
        horizon: int = 4,
        num_links: int = 192,
        num_choose: int = 48,
        num_tune: int = 96,
        links_per_drop: int = 8,
        transmit_snr_db: Sequence[float] = (5.0, 10.0, 15.0, 20.0, 25.0),
        mcs: Sequence[int] = (9, 13, 16, 19, 21, 23, 25, 27),
        mcs_table: int = 2,
        tone_step: int = 2,
        num_symbols: int = 12,
        channel_overrides: dict[str, Any] | None = None,
        seed: int = 7,
        threads: int = 1,
        quick: bool = False,
        title: str = "Precoding over a coded link",
    ):
        self.config = {name: describe(value) for name, value in locals().items() if name != "self"}
        if quick:
            speeds_kmh, transmit_snr_db, mcs = speeds_kmh[:1], transmit_snr_db[:2], mcs[:2]
            num_links, num_choose, num_tune = 8, 8, 16
        sizes = {"num_links": num_links, "num_choose": num_choose, "num_tune": num_tune}
        if users < 1 or links_per_drop < 1 or links_per_drop % users:
            raise RecipeError(f"links_per_drop is {links_per_drop}, but must be a positive multiple of users ({users})")
        for name, count in sizes.items():
            if count < 1 or count % links_per_drop:
                raise RecipeError(
                    f"{name} is {count}, but must be a positive multiple of links_per_drop "
                    f"({links_per_drop}): no drop is ever split"
                )
        if not speeds_kmh or not transmit_snr_db or not mcs:
            raise RecipeError("speeds_kmh, transmit_snr_db and mcs must not be empty")
        self.label, self.model = row_of(model, "model")
        self.by_name = not is_own(precoder) and str(precoder) in registered("precoder", built=True)
        self.precoder_label, self.precoder = row_of(precoder, "precoder", role="precoder")
        self.scenario, self.speeds_kmh, self.users = scenario, [float(v) for v in speeds_kmh], users
        self.csi_snr_db, self.history, self.horizon = float(csi_snr_db), history, horizon
        self.num_links, self.num_choose, self.num_tune = num_links, num_choose, num_tune
        self.links_per_drop = links_per_drop
        self.transmit_snr_db = tuple(sorted(float(snr) for snr in transmit_snr_db))
        self.mcs, self.mcs_table = [int(index) for index in mcs], mcs_table
        self.tone_step, self.num_symbols = tone_step, num_symbols
        self.channel_overrides = dict(channel_overrides or {})
        self.seed, self.threads, self.title = seed, threads, title
        learned = [] if self.by_name else [self.precoder_label]
        names = {"{model}": self.label, "{precoder}": self.precoder_label}
        texts = [fill_in(chain_text(value), names) for value in methods]
        predictors = registered("predictor", built=True)
        chains = [parse_chain(text, [*predictors, "perfect", self.label, self.label + OFF], learned) for text in texts]
        self.chains = list(dict.fromkeys(chains))
        self.bar = fill_in(chain_text(bar, "bar"), names)
        if self.bar not in [chain.name for chain in self.chains]:
            raise RecipeError(f"bar is {self.bar!r}, which is not among the methods; add it")
        for chain in self.chains:
            if chain.precoder == "dpc" or (chain.precoder == "tuned" and chain.source not in predictors):
                raise RecipeError(f"'{chain.name}' cannot be sent over a link here: take a precoder by name")
        self.links_of(self.mcs[0])  # refuses sizes that no code block holds, before anything runs

    def links_of(self, mcs: int) -> Any:
        """The coded link of one entry of the table."""
        from airlam.channels import load_channel
        from airlam.link import CodedLink

        tones = load_channel({**load_channel(self.scenario).recipe, **self.channel_overrides}).num_subcarriers
        count = len(range(0, tones, self.tone_step))
        return CodedLink(mcs, mcs_table=self.mcs_table, num_subcarriers=count, num_symbols=self.num_symbols)

    def cells(self) -> list[Cell]:
        """One cell a speed."""
        from airlam.channels import load_channel

        out = []
        for speed in self.speeds_kmh:
            recipe = {**load_channel(self.scenario).recipe, "speed_kmh": speed, **self.channel_overrides}
            recipe = load_channel({**recipe, "links_per_drop": self.links_per_drop}).recipe
            label = f"mcs {self.mcs} of table {self.mcs_table}, {self.num_symbols} symbols, chosen on {self.num_choose}"
            out.append(
                Cell(
                    "link",
                    self.scenario,
                    recipe,
                    speed,
                    self.csi_snr_db,
                    self.num_links,
                    self.num_tune,
                    self.history,
                    self.horizon,
                    self.horizon,
                    tuple(chain.name for chain in self.chains),
                    (self.users,),
                    self.transmit_snr_db,
                    self.transmit_snr_db[-1],
                    self.tone_step,
                    self.seed,
                    label=label,
                )
            )
        return out

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet; write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``."""
        out = Path(out)
        with cpu_threads(self.threads):
            model = build_row(self.label, self.model)
            precoder = build_row(self.precoder_label, self.precoder, "precoder")
            own = [*outside(c.source for c in self.chains), *outside((c.precoder for c in self.chains), "precoder")]
            weights = combined([model, precoder, *own])
            records = run_cells(
                self.cells(), lambda cell: self._run_cell(cell, model, precoder), lambda _: weights, out, lambda _: 1.0
            )
        results = self.results(records)
        return publish(results, out, threads=self.threads)

    def _run_cell(self, cell: Cell, model: Any, learned: Any) -> dict[str, Any]:
        start = time.perf_counter()
        # drops are independent: the first ones are judged, on the others the MCS is chosen
        links, known = cell.links("test", cell.num_links + self.num_choose), cell.links("tune", cell.num_tune)
        h_past, seen = cell.observe(links.h, "test")[0], cell.observe(known.h, "tune")[0]
        names = list(dict.fromkeys(chain.source for chain in self.chains))
        sources = predicted_sources(cell, links, h_past, (known, seen), {self.label: model}, names)
        tones = tones_of(cell, links.h.shape[2])
        truth, groups = links.h[:, cell.history :, tones], group_users(links.drop, self.users)
        judged, choosing = split_groups(groups, cell.num_links)
        other = known[halves(known)[1]]
        coded = [self.links_of(index) for index in self.mcs]
        record: dict[str, Any] = {
            "cell": asdict(cell),
            "drop": links.drop[: cell.num_links].tolist(),
            "group_drop": {str(self.users): judged.drop.tolist()},
            "choosing_drop": choosing.drop.tolist(),
            "efficiency": [c.efficiency for c in coded],
            "methods": {},
        }
        for chain in self.chains:
            source = sources[chain.source]
            trial, final = (served(source.test, truth, part) for part in (choosing, judged))
            entry: dict[str, Any] = {
                "settings": dict(source.settings),
                "parameters": [source.parameters, 0],
                "errors": [],
                "lost": [],
                "chosen": [],
            }
            for number, snr_db in enumerate(cell.transmit_snr_db):
                no = 10 ** (-snr_db / 10)
                if chain.precoder == "tuned":
                    assert source.tune is not None
                    true = other.h[:, cell.history :, tones]
                    tuning = served(source.tune, true, group_users(other.drop, self.users)).every_tone(TUNING_TONES)
                    precoder: Any = Tuned.on(tuning, no)
                else:
                    precoder = load_named(chain.precoder, learned)
                told = chain.robust or chain.precoder == "tuned"
                sent = partial(send, precoder=precoder, no=no, told=told)
                # every chain sends the same bits through the same noise
                seeds = [cell.stream(f"choosing {number} {place}") for place in range(len(coded))]
                errors = [sent(trial, link, seed=seed) for link, seed in zip(coded, seeds, strict=True)]
                best = best_entry(errors, record["efficiency"])
                entry["errors"].append([values.tolist() for values in errors])
                entry["chosen"].append(best)
                lost = sent(final, coded[best], seed=cell.stream(f"bits {number} {best}"))
                entry["lost"].append(lost.tolist())
            record["methods"][chain.name] = entry
        record["seconds"] = round(time.perf_counter() - start, 1)
        return record

    def results(self, records: list[dict[str, Any]]) -> Results:
        """Rows, tables and headline."""
        results = Results(self.title, "link_level", config=dict(self.config))
        for record in records:
            drop = torch.tensor(record["group_drop"][str(self.users)])
            efficiency = torch.tensor(record["efficiency"])
            bits = {m: throughput(e, efficiency, self.users) for m, e in record["methods"].items()}
            choosing = torch.tensor(record["choosing_drop"])
            axis, name = list(record["cell"]["transmit_snr_db"]), "transmit SNR [dB]"
            for method, entry in record["methods"].items():
                row = new_row(record, method, "link")
                row.settings["mcs"] = [self.mcs[place] for place in entry["chosen"]]
                unit = "bit/s/Hz"
                row.figures["throughput"] = statistics.curve(bits[method], drop, axis, name, unit)
                if method != self.bar:
                    gains = [
                        statistics.gain(own, bar, drop, unit)
                        for own, bar in zip(bits[method].mT, bits[self.bar].mT, strict=True)
                    ]
                    row.figures["throughput_gain"] = statistics.join(gains, axis, name)
                errors = torch.tensor(entry["errors"]).double()  # [snr, mcs, group]
                for place, index in enumerate(self.mcs):
                    row.figures[f"bler_mcs{index}"] = statistics.curve(errors[:, place].mT, choosing, axis, name, "1")
                results.rows.append(row)
        results.recipes = {record["cell"]["data"]: record["cell"]["recipe"] for record in records}
        results.extras = {
            "focus": f"{self.label} + {self.precoder_label}",
            "bar": self.bar,
            "tables": self._tables(results.rows),
            "compared": self._compared(),
        }
        results.headline = self._headline(results)
        results.notes = [
            "Measured: every block was encoded, sent among the others, and decoded.",
            "Receivers know the channel of their own beam and the power that disturbs it.",
            f"Which entry of the MCS table a chain sends with is chosen on {self.num_choose} links of other drops, at "
            "each SNR and speed; curves of block error rate are measured on these.",
            "Intervals: 95 %, bootstrap over drops; gains are paired: the same links and CSI noise, and with the same "
            "entry of the table the same bits and noise.",
        ]
        return results

    def _tables(self, rows: list[Row]) -> list[dict[str, Any]]:
        out = []
        for speed in self.speeds_kmh:
            here = {row.method: row for row in rows if row.speed_kmh == speed}
            lines = []
            for method in order(list(here)):
                curve, gain = here[method].figures["throughput"], here[method].figures.get("throughput_gain")
                cells = []
                for place, value in enumerate(_values(curve)):
                    text = f"{value:.2f} (MCS {here[method].settings['mcs'][place]})"
                    if gain is not None and isinstance(gain.interval, list):
                        low, high = gain.interval[place]
                        text += f" {_values(gain)[place]:+.2f} ({low:+.2f} to {high:+.2f})"
                    cells.append(text)
                lines.append([look(method).label, *cells])
            columns = ["method", *(f"{snr:g} dB" for snr in self.transmit_snr_db)]
            title = f"{speed:g} km/h: throughput of {self.users} users [bit/s/Hz]"
            row = next(iter(here.values()))
            text = (
                f"With the entry of MCS table {self.mcs_table} chosen on other drops at each SNR; gain over "
                f"{look(self.bar).label}, with 95 % interval. {row.num_links} links from {row.num_drops} drops."
            )
            out.append({"title": title, "columns": columns, "lines": lines, "text": text})
        return out

    def _headline(self, results: Results) -> str:
        """The learned chain against the bar at every SNR."""
        focus, words = results.extras["focus"], []
        for speed in self.speeds_kmh:
            rows = {row.method: row for row in results.rows if row.speed_kmh == speed}
            if focus not in rows:
                continue
            own, bar = (_values(rows[m].figures["throughput"]) for m in (focus, self.bar))
            gain = rows[focus].figures.get("throughput_gain")
            points = []
            for place, snr in enumerate(self.transmit_snr_db):
                text = f"{snr:g} dB {own[place]:.2f} against {bar[place]:.2f} bit/s/Hz"
                if gain is not None and isinstance(gain.interval, list):
                    low, high = gain.interval[place]
                    word = verdict(Figure(_values(gain)[place], gain.unit, gain.kind, (low, high), groups=gain.groups))
                    text += f" ({_values(gain)[place]:+.2f}, {low:+.2f} to {high:+.2f}: {word})"
                points.append(text)
            words.append(f"{speed:g} km/h: " + ", ".join(points))
        return f"Throughput of {self.users} users, {focus} against {self.bar}, gains with 95 % intervals. " + (
            "; ".join(words) + "." if words else "Not run."
        )

    def _compared(self) -> list[str]:
        return [
            f"{self.users} users of one drop of {self.scenario}, CSI SNR {self.csi_snr_db:g} dB, {self.horizon} slots "
            f"served from {self.history} measured ones. One transport block a user and slot: every "
            f"{self.tone_step}. subcarrier, {self.num_symbols} OFDM symbols, LDPC and QAM of TS 38.212 and 38.211.",
            "Users are scaled to unit mean channel gain. Nothing is sent again: a lost block counts as nothing.",
        ]


def split_groups(groups: Groups, num_links: int) -> tuple[Groups, Groups]:
    """Groups of the first ``num_links`` links, and the others."""
    first = groups.users[:, 0] < num_links
    return Groups(groups.users[first], groups.drop[first]), Groups(groups.users[~first], groups.drop[~first])


def load_named(name: str, learned: Any) -> Any:
    """A registered precoder by name; any other name is that of the learned one."""
    method = find(name, "precoder")
    return method.build() if method is not None and method.factory else learned


def send(groups: Served, link: Any, *, precoder: Any, no: float, told: bool, seed: int) -> Tensor:
    """Share of blocks lost in each group ``[group]``, one block a slot and user. ``told``: the precoder is told the
    covariance of the CSI's error. ``seed``: of bits and noise."""
    generator, out = torch.Generator().manual_seed(seed), []
    for part in torch.arange(len(groups.h)).split(GROUPS_AT_ONCE):
        here = groups.part(part)
        spread = here.told(precoder) if told else None
        w = precoder.precode(here.h, 1.0, no, error_covariance=spread).flatten(0, 1)
        found = link.block_errors(here.truth.squeeze(-2).flatten(0, 1), w, no, generator=generator)
        out.append(found.double().unflatten(0, (len(part), -1)).mean((1, 2)))
    return torch.cat(out)


def best_entry(errors: Sequence[Tensor], efficiency: Sequence[float]) -> int:
    """The place of the MCS that brings most, from the share of blocks lost ``[group]`` with each of them."""
    arrived = [rate * float(1 - lost.mean()) for lost, rate in zip(errors, efficiency, strict=True)]
    return max(range(len(arrived)), key=lambda place: arrived[place])


def throughput(entry: dict[str, Any], efficiency: Tensor, users: int) -> Tensor:
    """Bits that arrive, summed over the users of a group, ``[group, snr]``, with the MCS chosen at each SNR."""
    lost, chosen = torch.tensor(entry["lost"]).double(), torch.tensor(entry["chosen"])
    return (users * efficiency.double()[chosen, None] * (1 - lost)).mT


def _values(figure: Figure) -> list[float]:
    assert isinstance(figure.value, list)
    return figure.value
