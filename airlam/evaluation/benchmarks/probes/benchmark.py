"""The benchmark of probes: which properties of a link a frozen backbone encodes without having been trained on them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from airlam.csi import measure
from airlam.evaluation.benchmarks.probes.config import ProbeArguments
from airlam.evaluation.benchmarks.probes.heads import fit_probe
from airlam.evaluation.benchmarks.probes.tables import TARGETS, headline, score, tables
from airlam.evaluation.engine import statistics
from airlam.evaluation.report.html import publish
from airlam.evaluation.rows import Results, Row
from airlam.io import recipe_hash
from airlam.metrics import cpu_threads
from airlam.seeds import stream_seed

PENALTIES = tuple(10.0**k for k in range(-4, 3))


class ProbeBenchmark(ProbeArguments):
    """Linear probes for line of sight and speed, on three sets of features of the same measured histories.

    The features are the pooled hidden states of the shipped backbone, those of one with random weights, and hand-made
    statistics (:func:`airlam.baselines.link_features`). Probes are fitted on shares of the training links; their
    penalty is chosen on validation links of other drops. The arguments stand in
    :class:`~airlam.evaluation.benchmarks.probes.config.ProbeArguments`.

    Attributes:
        config: the arguments as they were given, for ``results.json``.
        label: the name of the backbone's rows.

    Example:
        >>> ProbeBenchmark(quick=True).sizes.num_train
        64
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.config = self.plain()
        self.label = Path(self.model).name
        if self.quick:
            self._set(**self.reduced())
            self.sizes.fit(len(self.cells.scenarios))

    def run(self, out: str | Path) -> Path:
        """Run everything; write ``results.json``, ``report.html``, ``leaderboard.md``; returns the report's path."""
        out = Path(out)
        with cpu_threads(self.threads):
            rows, recipes = self.rows()
        results = Results(self.title, "probes", rows, config=dict(self.config), recipes=recipes)
        results.extras = {
            "focus": self.label,
            "tables": tables(rows),
            "compared": [
                "The same linear head on three sets of features of the same noisy histories. Penalties are chosen on "
                "validation links; figures are of test links of other drops, intervals bootstrapped over drops.",
            ],
        }
        results.headline = headline(rows, self.label)
        results.notes = ["Labels come from the simulator; LOS and NLOS are 3GPP's states, one recipe each."]
        return publish(results, out, threads=self.threads)

    def sample(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Links of each split, all scenarios in turn (a prefix holds as many of each); the resolved recipes."""
        from airlam.channels import LinkBatch, load_channel

        out, recipes = {}, {}
        for split, count in self.sizes.of_split().items():
            parts = []
            for scenario in self.cells.scenarios:
                recipe = {**load_channel(scenario).recipe, "speed_kmh": self.cells.speed_kmh}
                recipe["links_per_drop"], recipes[scenario] = self.sizes.links_per_drop, recipe
                seed = stream_seed(self.seed, recipe, split)
                parts.append(
                    load_channel(recipe).sample(count // len(self.cells.scenarios), self.cells.slots, seed=seed)
                )
            links = LinkBatch.concatenate(parts)
            out[split] = links[torch.arange(count).view(len(self.cells.scenarios), -1).mT.flatten()]
        return out, recipes

    def rows(self) -> tuple[list[Row], dict[str, Any]]:
        """One row for each target, SNR, share of the training links and set of features."""
        from airlam.baselines import link_features
        from airlam.evaluation.engine.contenders import trainable
        from airlam.models import pooled_hidden

        shipped = trainable(self.model).model  # type: ignore[attr-defined]
        splits, recipes = self.sample()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            untrained = shipped.untrained()
        shape = splits["test"].port_shape
        sets = {
            "hand-made": lambda h: link_features(h, shape),
            f"{self.label}:random-start": lambda h: pooled_hidden(untrained, h, shape),
            self.label: lambda h: pooled_hidden(shipped, h, shape),
        }
        rows = []
        for snr_db in self.cells.csi_snr_db:
            measured = {
                split: measure(links.h, snr_db, torch.Generator().manual_seed(self.seed + number))
                for number, (split, links) in enumerate(splits.items())
            }
            features = {name: {s: make(h) for s, h in measured.items()} for name, make in sets.items()}
            for target in TARGETS:
                labels = {s: x.los.double() if target != "speed" else 3.6 * x.speed.double() for s, x in splits.items()}
                for share in self.shots:
                    best: dict[str, Tensor] = {}
                    for name, x in features.items():
                        loss, settings = self.probe(x, labels, share, classify=target != "speed")
                        row = Row(
                            name,
                            ", ".join(self.cells.scenarios),
                            recipe_hash(recipes),
                            None,
                            snr_db,
                            self.cells.slots,
                            0,
                            settings=settings | {"target": target, "links": math.ceil(share * self.sizes.num_train)},
                            seeds={"benchmark": self.seed},
                            num_links=len(loss),
                            num_drops=len(splits["test"].drop.unique()),
                            group="probe",
                        )
                        drop = splits["test"].drop
                        row.figures["loss"] = statistics.mean_figure(loss, drop, "1")
                        row.figures["score"] = score(row.figures["loss"], target)
                        best[name] = loss
                        if name != "hand-made":
                            row.figures["gain"] = statistics.gain(best["hand-made"], loss, drop, "1")
                        rows.append(row)
        return rows, recipes

    def probe(
        self, x: dict[str, Tensor], y: dict[str, Tensor], share: float, *, classify: bool
    ) -> tuple[Tensor, dict[str, Any]]:
        """Loss of every test link (1 where the class is wrong; squared error), and the penalty chosen."""
        count = max(2, math.ceil(share * len(x["train"])))
        few, label = x["train"][:count].double(), y["train"][:count]
        centre, spread = few.mean(0), few.std(0).clamp_min(1e-6)
        z = {split: (values.double() - centre) / spread for split, values in x.items()}

        def loss(split: str, penalty: float) -> Tensor:
            weights, constant = fit_probe(z["train"][:count], label, penalty, classify=classify)
            said = z[split] @ weights + constant
            return ((said > 0).double() != y[split]).double() if classify else (said - y[split]).square()

        penalty = min(PENALTIES, key=lambda p: float(loss("val", p).mean()))
        return loss("test", penalty), {"penalty": penalty}
