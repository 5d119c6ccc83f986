"""Coded links: whether an advantage in spectral efficiency survives a real code."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from airlam.evaluation import statistics
from airlam.evaluation.assembly import new_row
from airlam.evaluation.cell import Cell
from airlam.evaluation.cells import run_cells
from airlam.evaluation.chains import (
    Tuned,
    chain_text,
    fill_in,
    halves,
    parse_chain,
    predicted_sources,
    served,
    tones_of,
)
from airlam.evaluation.contenders import OFF, build_row, row_of
from airlam.evaluation.fingerprint import combined, outside
from airlam.evaluation.methods import look, order
from airlam.evaluation.report import publish
from airlam.evaluation.rows import Figure, Results, Row
from airlam.evaluation.spectral_efficiency import group_users
from airlam.interfaces import RecipeError
from airlam.methods import describe, is_own
from airlam.methods import names as registered
from airlam.metrics import cpu_threads


class LinkLevelBenchmark:
    """Block error rate and throughput of chains of CSI and precoder over a 5G NR coded OFDM link.

    Every slot of the horizon carries one transport block to each user of a group. Throughput at an SNR is that of the
    best of ``mcs`` there, one for all blocks of a speed: slow link adaptation, the same for every chain.

    Args:
        model, precoder: the learned predictor and precoder: shipped names, folders, or your own, as there.
        methods: chains, as in :class:`airlam.evaluation.BeamformingBenchmark`. bar: what gains are relative to.
        scenario: a channel recipe's name. speeds_kmh: at least one. users: of a group, one drop each.
        csi_snr_db, history, horizon, num_links, num_tune: as there.
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
        methods: Sequence[Any] = ("ar + rzf", "{model} + rzf", "{model} + {precoder}", "perfect + rzf"),
        bar: Any = "ar + rzf",
        scenario: str = "uma_nlos",
        speeds_kmh: Sequence[float] = (30.0, 100.0),
        users: int = 4,
        csi_snr_db: float = 20.0,
        history: int = 16,
        horizon: int = 4,
        num_links: int = 48,
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
            speeds_kmh, transmit_snr_db, mcs, num_links, num_tune = speeds_kmh[:1], transmit_snr_db[:2], mcs[:2], 8, 16
        if links_per_drop % users or num_links % links_per_drop or num_tune % links_per_drop or num_links < 1:
            raise RecipeError(
                f"links_per_drop is {links_per_drop}: a multiple of users ({users}) it must be, and num_links "
                f"({num_links}) and num_tune ({num_tune}) multiples of it"
            )
        if not speeds_kmh or not transmit_snr_db or not mcs:
            raise RecipeError("speeds_kmh, transmit_snr_db and mcs must not be empty")
        self.label, self.model = row_of(model, "model")
        self.by_name = not is_own(precoder) and str(precoder) in registered("precoder", built=True)
        self.precoder_label, self.precoder = row_of(precoder, "precoder", role="precoder")
        self.scenario, self.speeds_kmh, self.users = scenario, [float(v) for v in speeds_kmh], users
        self.csi_snr_db, self.history, self.horizon = float(csi_snr_db), history, horizon
        self.num_links, self.num_tune, self.links_per_drop = num_links, num_tune, links_per_drop
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
            label = f"mcs {self.mcs} of table {self.mcs_table}, {self.num_symbols} symbols"
            out.append(Cell(
                "link", self.scenario, recipe, speed, self.csi_snr_db, self.num_links, self.num_tune, self.history,
                self.horizon, self.horizon, tuple(chain.name for chain in self.chains), (self.users,),
                self.transmit_snr_db, self.transmit_snr_db[-1], self.tone_step, self.seed, label=label,
            ))  # fmt: skip
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
        from airlam.loading import load_precoder

        start = time.perf_counter()
        links, known = cell.links("test", cell.num_links), cell.links("tune", cell.num_tune)
        h_past, seen = cell.observe(links.h, "test")[0], cell.observe(known.h, "tune")[0]
        names = list(dict.fromkeys(chain.source for chain in self.chains))
        sources = predicted_sources(cell, links, h_past, (known, seen), {self.label: model}, names)
        tones = tones_of(cell, links.h.shape[2])
        truth, groups = links.h[:, cell.history :, tones], group_users(links.drop, self.users)
        other = known[halves(known)[1]]
        coded = [self.links_of(index) for index in self.mcs]
        record: dict[str, Any] = {
            "cell": asdict(cell), "drop": links.drop.tolist(),
            "group_drop": {str(self.users): groups.drop.tolist()}, "efficiency": [c.efficiency for c in coded],
            "methods": {},
        }  # fmt: skip
        for chain in self.chains:
            source, errors = sources[chain.source], []
            here = served(source.test, truth, groups)
            told = chain.robust or chain.precoder == "tuned"
            for number, snr_db in enumerate(cell.transmit_snr_db):
                no = 10 ** (-snr_db / 10)
                if chain.precoder == "tuned":
                    assert source.tune is not None
                    tuning = served(source.tune, other.h[:, cell.history :, tones], group_users(other.drop, self.users))
                    precoder: Any = Tuned.on(tuning, no)
                else:
                    precoder = learned if chain.precoder == self.precoder_label else load_precoder(chain.precoder)
                spread = here.covariance if told else None
                w = precoder.precode(here.h, 1.0, no, error_covariance=spread).flatten(0, 1)
                h = here.truth.squeeze(-2).flatten(0, 1)
                lost = []
                for place, link in enumerate(coded):
                    # every chain sends the same bits through the same noise
                    generator = torch.Generator().manual_seed(cell.stream(f"bits {number} {place}"))
                    found = link.block_errors(h, w, no, generator=generator)
                    lost.append(found.float().unflatten(0, (len(here.h), -1)).mean((1, 2)).tolist())
                errors.append(lost)
            entry = {"settings": dict(source.settings), "parameters": [source.parameters, 0], "errors": errors}
            record["methods"][chain.name] = entry
        record["seconds"] = round(time.perf_counter() - start, 1)
        return record

    def results(self, records: list[dict[str, Any]]) -> Results:
        """Rows, tables and headline."""
        results = Results(self.title, "link_level", config=dict(self.config))
        for record in records:
            drop = torch.tensor(record["group_drop"][str(self.users)])
            efficiency = torch.tensor(record["efficiency"])
            bits = {m: self._throughput(e["errors"], efficiency) for m, e in record["methods"].items()}
            axis, name = list(record["cell"]["transmit_snr_db"]), "transmit SNR [dB]"
            for method, entry in record["methods"].items():
                row = new_row(record, method, "link")
                row.settings["mcs"] = [self.mcs[i] for i in bits[method][1]]
                unit = "bit/s/Hz"
                row.figures["throughput"] = statistics.curve(bits[method][0].double(), drop, axis, name, unit)
                if method != self.bar:
                    gains = [
                        statistics.gain(own.double(), bar.double(), drop, unit)
                        for own, bar in zip(bits[method][0].mT, bits[self.bar][0].mT, strict=True)
                    ]
                    row.figures["throughput_gain"] = statistics.join(gains, axis, name)
                errors = torch.tensor(entry["errors"]).double()  # [snr, mcs, group]
                for place, index in enumerate(self.mcs):
                    row.figures[f"bler_mcs{index}"] = statistics.curve(errors[:, place].mT, drop, axis, name, "1")
                results.rows.append(row)
        results.recipes = {record["cell"]["data"]: record["cell"]["recipe"] for record in records}
        results.extras = {"focus": f"{self.label} + {self.precoder_label}", "bar": self.bar,
                          "tables": self._tables(results.rows), "compared": self._compared()}  # fmt: skip
        results.headline = self._headline(results)
        results.notes = [
            "Measured: every block was encoded, sent among the others, and decoded.",
            "Receivers know the channel of their own beam and the power that disturbs it.",
            "Intervals: 95 %, bootstrap over drops; gains are paired: the same links, CSI noise, bits and noise.",
        ]
        return results

    def _throughput(self, errors: list, efficiency: torch.Tensor) -> tuple[torch.Tensor, list[int]]:
        """Sum over users of the bits that arrive, ``[group, snr]``, with the best entry of the table at each SNR."""
        arrived = self.users * efficiency[:, None] * (1 - torch.tensor(errors))  # [snr, mcs, group]
        best = arrived.mean(-1).argmax(-1)
        return arrived[torch.arange(len(best)), best].mT, best.tolist()

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
            text = f"With the best entry of MCS table {self.mcs_table} at each SNR; gain over {look(self.bar).label}."
            out.append({"title": title, "columns": columns, "lines": lines, "text": text})
        return out

    def _headline(self, results: Results) -> str:
        words = []
        for speed in self.speeds_kmh:
            rows = {row.method: row for row in results.rows if row.speed_kmh == speed}
            focus = results.extras["focus"]
            if focus not in rows:
                continue
            own, bar = (_values(rows[m].figures["throughput"])[-1] for m in (focus, self.bar))
            words.append(f"{speed:g} km/h {own:.2f} against {bar:.2f} bit/s/Hz ({100 * (own / bar - 1):+.0f} %)")
        snr = self.transmit_snr_db[-1]
        return f"Throughput of {self.users} users at {snr:g} dB, {results.extras['focus']} against {self.bar}: " + (
            "; ".join(words) + "." if words else "not run."
        )

    def _compared(self) -> list[str]:
        return [
            f"{self.users} users of one drop of {self.scenario}, CSI SNR {self.csi_snr_db:g} dB, {self.horizon} slots "
            f"served from {self.history} measured ones. One transport block a user and slot: every "
            f"{self.tone_step}. subcarrier, {self.num_symbols} OFDM symbols, LDPC and QAM of TS 38.212 and 38.211.",
            "Users are scaled to unit mean channel gain. Nothing is sent again: a lost block counts as nothing.",
        ]


def _values(figure: Figure) -> list[float]:
    assert isinstance(figure.value, list)
    return figure.value
