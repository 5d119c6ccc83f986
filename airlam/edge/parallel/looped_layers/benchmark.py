"""``airlam evaluate --config tasks/pretraining/looped_benchmark.yaml``: layers that are run through several times."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from airlam.edge.parallel.looped_layers.config import LoopedLayersArguments, Variant
from airlam.errors import RecipeError
from airlam.io import read_finished, recipe_hash, write_json
from airlam.metrics import cpu_threads
from airlam.recipes import find_recipe, read_yaml


class LoopedLayersBenchmark(LoopedLayersArguments):
    """The same row of layers run through once or several times, against rows of as many layers of their own.

    Every variant is pretrained from random weights for the same CPU time, on the same stream of links, and judged on
    links of other draws. No training link is seen twice. A finished run is kept: a second call does what is missing.
    The arguments stand in :class:`~airlam.edge.parallel.looped_layers.config.LoopedLayersArguments`.

    Attributes:
        config: the arguments as they were given, for ``results.json``.
        recipe: the pretraining. dataset: arguments of its data. kinds: the variants by name.

    Example:
        >>> LoopedLayersBenchmark(quick=True).seeds
        (1,)
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.config = self.plain()
        if self.quick:
            self._set(**self.reduced())
        self.recipe = read_yaml(find_recipe(self.task))
        self.dataset = read_yaml(find_recipe(self.data, "datasets"))
        self.kinds = {name: Variant.of(name, data) for name, data in self.variants.items()}

    def hash_of(self, variant: Variant, seed: int) -> str:
        """Of everything that the record of a run depends on but the code."""
        own = {name: self.recipe["trainer"].get(name) for name in ("precision", "gradient_clip_val")}
        return recipe_hash(
            [asdict(variant), seed, asdict(self.training), asdict(self.sizes), self.recipe["model"], own, self.dataset]
        )

    def run(self, out: str | Path) -> Path:
        """Run what has not been run; write ``results.json``, ``report.html``, ``leaderboard.md`` and plots."""
        import torch

        from airlam.edge.parallel.looped_layers.costs import costs
        from airlam.edge.parallel.looped_layers.figures import SECTIONS
        from airlam.edge.parallel.looped_layers.results import build_results
        from airlam.edge.parallel.looped_layers.training import task_arguments
        from airlam.evaluation.report.html import publish
        from airlam.models import AirlamConfig, AirlamModel

        out = Path(out)
        records: dict[str, list[dict[str, Any]]] = {}
        for record in self.records(out):
            records.setdefault(record["name"], []).append(record)
        taken = {}
        with cpu_threads(self.threads), torch.random.fork_rng(devices=[]):
            for name in records:
                config = AirlamConfig(**task_arguments(self.recipe, self.kinds[name], self.training)["model"])
                size = {"links": self.training.batch_size, "tokens": config.num_tokens + config.num_groups}
                model = AirlamModel(config)
                for record in records[name]:
                    record["trained"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
                taken[name] = [costs(model, count, **size) for count in self.devices]
        context = {
            "data": Path(self.data).stem,
            "hash": recipe_hash(self.dataset),
            "minutes": f"{self.training.minutes:g}",
            "batch": str(self.training.batch_size),
        }
        results = build_results(self.title, self.kinds, records, taken, self.sizes, context)
        results.config, results.recipes = dict(self.config), {"data": self.dataset, "task": self.recipe["model"]}
        return publish(results, out, threads=self.threads, sections=SECTIONS)

    def records(self, out: Path) -> list[dict[str, Any]]:
        """The record of every variant and seed: found in ``out``, or run and left there (not with ``report_only``).
        All variants of the first seed come first.

        Raises:
            RecipeError: nothing is finished.
        """
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        from airlam.data import CSIDataModule
        from airlam.data.batches import KeptBatches, OnTheFly
        from airlam.edge.parallel.looped_layers.training import train

        data = CSIDataModule(**self.dataset)
        records: list[dict[str, Any]] = []
        kept: dict[str, Any] = {}

        def links(split: str, count: int) -> list[dict[str, Any]]:
            if split not in kept:
                r = data.recipe
                stream = OnTheFly(
                    r.channel_model,
                    batch_size=self.sizes.links_per_draw,
                    history=self.sizes.history,
                    horizon=self.sizes.horizon,
                    csi_snr_db=r.csi_snr_db,
                    impairments=r.impairments,
                    seed=r.seed,
                    split=split,
                )
                kept[split] = KeptBatches(stream, count).batches
            return kept[split]

        columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with cpu_threads(self.threads), Progress(*columns) as progress:
            bar = progress.add_task("", total=len(self.kinds) * len(self.seeds))
            for seed in self.seeds:
                for name, variant in self.kinds.items():
                    progress.update(bar, description=f"{name}, seed {seed}")
                    path = out / "runs" / f"{self.hash_of(variant, seed)}.json"
                    record = read_finished(path)
                    if record is None and not self.report_only:
                        looks, test = links("val", self.training.num_val), links("test", self.sizes.num_links)
                        record = train(variant, seed, self.training, self.recipe, data, looks, test)
                        write_json(path, record)
                    if record is not None:
                        records.append(record | {"name": name})
                    progress.advance(bar)
        if not records:
            raise RecipeError(f"{out / 'runs'} holds no finished run of these variants; leave report_only out")
        return records
