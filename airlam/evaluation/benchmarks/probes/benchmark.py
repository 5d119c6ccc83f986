"""The benchmark of probes: what a frozen backbone knows of a link that it was never asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from airlam.csi import measure
from airlam.evaluation.engine import statistics
from airlam.evaluation.report.html import publish
from airlam.evaluation.report.verdicts import NO_VERDICT, verdict
from airlam.evaluation.rows import Figure, Results, Row
from airlam.interfaces import RecipeError
from airlam.io import recipe_hash
from airlam.metrics import cpu_threads
from airlam.seeds import stream_seed

PENALTIES = tuple(10.0**k for k in range(-4, 3))
TARGETS = {"line of sight": "accuracy", "speed": "RMSE [km/h]"}


def fit_probe(x: Tensor, y: Tensor, penalty: float, *, classify: bool) -> tuple[Tensor, Tensor]:
    """Linear head on features of zero mean and unit variance: ridge regression, or logistic regression.

    Args:
        x: ``[link, feature]``. y: ``[link]``, real, or 0 and 1.
        penalty: on the squared weights, per link.

    Returns:
        weights ``float64 [feature]`` and the constant.

    Example:
        >>> x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        >>> weights, constant = fit_probe(x, 2 * x[:, 0] + 1, 1e-9, classify=False)
        >>> round(float(weights[0]), 3), round(float(constant), 3)
        (2.0, 1.0)
    """
    x, y = x.double(), y.double()
    if not classify:
        centre, middle = x.mean(0), y.mean()
        z = x - centre
        gram = z.mT @ z / len(x) + penalty * torch.eye(x.shape[1], dtype=x.dtype)
        weights = torch.linalg.solve(gram, z.mT @ (y - middle) / len(x))
        return weights, middle - centre @ weights
    share = y.mean().clamp(0.5 / len(y), 1 - 0.5 / len(y))
    parameters = torch.zeros(x.shape[1] + 1, dtype=x.dtype)
    parameters[-1] = torch.logit(share)
    parameters.requires_grad_()
    optimizer = torch.optim.LBFGS([parameters], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = x @ parameters[:-1] + parameters[-1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, y)
        value = value + penalty * parameters[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)  # type: ignore[arg-type]
    return parameters[:-1].detach(), parameters[-1].detach()


class ProbeBenchmark:
    """Linear probes for line of sight and speed, on three sets of features of the same measured histories.

    The features are the pooled hidden states of the shipped backbone, those of one with random weights, and hand-made
    statistics (:func:`airlam.baselines.link_features`). Probes are fitted on shares of the training links; their
    penalty is chosen on validation links of other drops.

    Args:
        model: a shipped checkpoint's name or a checkpoint folder.
        scenarios: names of channel recipes, equally many links of each.
        speed_kmh: range of user speeds. history: slots. csi_snr_db: SNRs of the history [dB].
        num_train, num_val, num_test: links, of drops of their own. links_per_drop: users that share one.
        shots: shares of the training links.
        seed: of links and noise. threads: CPU threads. quick: a small version, for tests. title: of the report.
    """

    def __init__(
        self,
        model: str = "airlam-tiny",
        scenarios: Sequence[str] = ("uma_nlos", "umi_nlos", "uma_los", "umi_los"),
        speed_kmh: Sequence[float] = (3.0, 100.0),
        history: int = 16,
        csi_snr_db: Sequence[float] = (0.0, 10.0, 20.0, 30.0),
        num_train: int = 2000,
        num_val: int = 400,
        num_test: int = 800,
        links_per_drop: int = 4,
        shots: Sequence[float] = (0.01, 0.05, 0.1, 1.0),
        seed: int = 7,
        threads: int = 1,
        quick: bool = False,
        title: str = "Linear probes of the frozen backbone",
    ):
        self.config = {name: value for name, value in locals().items() if name != "self"}
        if quick:
            num_train, num_val, num_test, csi_snr_db, shots = 64, 32, 32, csi_snr_db[-1:], shots[-1:]
        self.model, self.label, self.scenarios = model, Path(model).name, list(scenarios)
        self.speed_kmh, self.history = [float(v) for v in speed_kmh], history
        self.csi_snr_db, self.shots = [float(s) for s in csi_snr_db], [float(s) for s in shots]
        self.links = {"train": num_train, "val": num_val, "test": num_test}
        self.links_per_drop, self.seed, self.threads, self.title = links_per_drop, seed, threads, title
        if not self.scenarios or not self.csi_snr_db or not self.shots:
            raise RecipeError("scenarios, csi_snr_db and shots must not be empty")
        for name in ("links_per_drop", "history", "threads"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name} is {getattr(self, name)}, but must be at least 1")
        for split, count in self.links.items():
            if count < 1 or count % (links_per_drop * len(self.scenarios)):
                raise RecipeError(
                    f"num_{split} is {count}, but must be a positive multiple of links_per_drop x scenarios "
                    f"({links_per_drop} x {len(self.scenarios)})"
                )
        if not all(0 < share <= 1 for share in self.shots):
            raise RecipeError(f"shots are shares of num_train in (0, 1], got {self.shots}")

    def run(self, out: str | Path) -> Path:
        """Run everything; write ``results.json``, ``report.html``, ``leaderboard.md``; returns the report's path."""
        out = Path(out)
        with cpu_threads(self.threads):
            rows, recipes = self.rows()
        results = Results(self.title, "probes", rows, config=dict(self.config), recipes=recipes)
        results.extras = {
            "focus": self.label,
            "tables": self.tables(rows),
            "compared": [
                "The same linear head on three sets of features of the same noisy histories. Penalties are chosen on "
                "validation links; figures are of test links of other drops, intervals bootstrapped over drops.",
            ],
        }
        results.headline = self.headline(rows)
        results.notes = ["Labels come from the simulator; LOS and NLOS are 3GPP's states, one recipe each."]
        return publish(results, out, threads=self.threads)

    def sample(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Links of each split, all scenarios in turn (a prefix holds as many of each); the resolved recipes."""
        from airlam.channels import LinkBatch, load_channel

        out, recipes = {}, {}
        for split, count in self.links.items():
            parts = []
            for scenario in self.scenarios:
                recipe = {**load_channel(scenario).recipe, "speed_kmh": self.speed_kmh}
                recipe["links_per_drop"], recipes[scenario] = self.links_per_drop, recipe
                seed = stream_seed(self.seed, recipe, split)
                parts.append(load_channel(recipe).sample(count // len(self.scenarios), self.history, seed=seed))
            links = LinkBatch.concatenate(parts)
            out[split] = links[torch.arange(count).view(len(self.scenarios), -1).mT.flatten()]
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
        for snr_db in self.csi_snr_db:
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
                            ", ".join(self.scenarios),
                            recipe_hash(recipes),
                            None,
                            snr_db,
                            self.history,
                            0,
                            settings=settings | {"target": target, "links": math.ceil(share * self.links["train"])},
                            seeds={"benchmark": self.seed},
                            num_links=len(loss),
                            num_drops=len(splits["test"].drop.unique()),
                            group="probe",
                        )
                        drop = splits["test"].drop
                        row.figures["loss"] = statistics.mean_figure(loss, drop, "1")
                        row.figures["score"] = _score(row.figures["loss"], target)
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

    def tables(self, rows: list[Row]) -> list[dict[str, Any]]:
        """A table for each target: features against SNR and share of the training links."""
        out = []
        for target, unit in TARGETS.items():
            here = [row for row in rows if row.settings["target"] == target]
            cells = list(dict.fromkeys((row.csi_snr_db, row.settings["links"]) for row in here))
            lines = []
            for name in dict.fromkeys(row.method for row in here):
                found = {(r.csi_snr_db, r.settings["links"]): r.figures["score"] for r in here if r.method == name}
                style = ".3f" if target != "speed" else ".1f"
                lines.append([name, *(f"{found[cell].number:{style}}" for cell in cells)])
            columns = ["features", *(f"{snr:g} dB, {links} links" for snr, links in cells)]
            out.append({"title": f"{target}: {unit}", "columns": columns, "lines": lines})
        return out

    def headline(self, rows: list[Row]) -> str:
        """Backbone against hand-made features, all links, every SNR."""
        words = []
        for target, unit in TARGETS.items():
            here = [r for r in rows if r.settings["target"] == target and r.method == self.label]
            here = [r for r in here if r.settings["links"] == max(x.settings["links"] for x in here)]
            found = [verdict(r.figures["gain"]) for r in here]
            words.append(
                f"{target} ({unit}): better at {found.count('better')} of {len(here)} SNRs, worse at "
                f"{found.count('worse')}, too few drops for a verdict at {found.count(NO_VERDICT)}"
            )
        return f"Probes on {self.label} against the same probes on hand-made features: " + "; ".join(words) + "."


def _score(loss: Figure, target: str) -> Figure:
    """Accuracy, or root mean squared error in km/h."""
    low, high = loss.ends
    if target != "speed":
        return Figure(1 - loss.number, "1", "measured", loss.interval and (1 - high, 1 - low), groups=loss.groups)
    interval = loss.interval and (math.sqrt(max(low, 0.0)), math.sqrt(high))
    return Figure(math.sqrt(loss.number), "km/h", "measured", interval, groups=loss.groups)
