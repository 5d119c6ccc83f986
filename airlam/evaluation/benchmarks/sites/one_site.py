"""One site: classical methods are tuned, models adapt, and all are judged on the site's held-out users."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from airlam.channels import LinkBatch, rt_available
from airlam.evaluation.benchmarks.sites.config import SiteArguments
from airlam.evaluation.benchmarks.sites.record import SiteRecord, add_mean
from airlam.evaluation.benchmarks.sites.users import BLOCK_M, SiteLinks, site_links, site_recipe, user_blocks
from airlam.evaluation.engine.cell import Cell, Contender, named_in_errors
from airlam.evaluation.engine.contenders import OFF, without_correction
from airlam.evaluation.engine.measure import measure_cell
from airlam.evaluation.engine.site_methods import contender_of, site_cell, tuned_on_site
from airlam.evaluation.engine.training import Adapted, Choice, adapt
from airlam.evaluation.results import LINK, CellRecord

TUNED = ("mean", "ar", "eigen-ar")


class SpeedClass(NamedTuple):
    """Test users of like speed, their measured histories, and the methods that are judged on them."""

    cell: Cell
    links: LinkBatch
    h_past: Tensor
    contenders: list[Contender]


def row_name(label: str, kind: str, fraction: float) -> str:
    """The name of an adapted row.

    Example:
        >>> row_name("airlam-tiny", "adapted", 0.05)
        'airlam-tiny:adapted-5%'
    """
    return f"{label}:{kind}-{100 * fraction:g}%"


class OneSite:
    """The run of one site.

    Args:
        arguments: of the benchmark.
        site: the site's label.
        shipped: the predictor of the checkpoint that adapts.
        label: its name in tables.
        say: prints a line of progress.
    """

    def __init__(self, arguments: SiteArguments, site: str, shipped: Any, label: str, say: Callable[[str], None]):
        self.arguments, self.site, self.shipped, self.label = arguments, site, shipped, label
        self.say = lambda text: say(f"{site}: {text}")

    def record(self) -> SiteRecord:
        """What each speed class gave, and how models were trained."""
        record = SiteRecord(self.site, site_recipe(self.arguments, self.site))
        scenario = record.recipe["scenario"]
        if scenario == "ray_traced" and not (available := rt_available()):
            self.say(f"left out, {available.reason}")
            record.not_run = available.reason
            return record
        start = time.perf_counter()
        self.say(f"Sionna makes {self.arguments.sizes.num_users} users")
        links = site_links(self.arguments, self.site)
        record.seconds_links = round(time.perf_counter() - start, 1)
        self.say(f"classics are tuned, {self.label} predicts as it is")
        classes = self._classes(links)
        for each in classes:
            with named_in_errors(each[0]):
                found = measure_cell(*each)
            # One site is one drop, and neighbours in it are alike: intervals are over blocks of neighbouring users.
            # Groups hold users of the whole site, so they are resampled one by one.
            found.drops = {per: list(range(len(drops))) for per, drops in found.drops.items()}
            found.drops[LINK] = user_blocks(each.links.position, BLOCK_M.get(scenario, 50.0)).tolist()
            record.cells.append(found)
        for kind in ("adapted", "random-start"):
            self._train_and_judge(kind, links, classes, record)
        record.seconds = round(time.perf_counter() - start, 1)
        return record

    def _classes(self, links: SiteLinks) -> list[SpeedClass]:
        """Test users split by speed, with the classical methods tuned for them and the model as it is."""
        sizes, conditions, out = self.arguments.sizes, self.arguments.conditions, []
        for users in links.test.speed.argsort().chunk(sizes.num_speed_classes):
            part = links.test[users]
            part.drop = torch.zeros_like(part.drop)  # all users of a site share its base station
            cell = site_cell(
                self.site,
                part,
                csi_snr_db=conditions.csi_snr_db,
                num_tune=sizes.num_tune,
                history=sizes.history,
                horizon=sizes.horizon,
                users=(sizes.group_size,),
                transmit_snr_db=(conditions.transmit_snr_db,),
                headline_snr_db=conditions.transmit_snr_db,
                seed=self.arguments.seed,
            )
            contenders = tuned_on_site(cell, part, links.train, TUNED)
            contenders += [
                contender_of(self.label + OFF, without_correction(self.shipped), part),
                contender_of(self.label, self.shipped, part),
                Contender("perfect", lambda *_: torch.empty(0), timed=False),
            ]
            out.append(SpeedClass(cell, part, cell.observe(part.h, "test")[0], contenders))
        return out

    def _train_and_judge(self, kind: str, links: SiteLinks, classes: list[SpeedClass], record: SiteRecord) -> None:
        """Adds the rows of one start to ``record``, for each share of the training links; means over seeds."""
        from airlam.models import AirlamPredictor

        how = self.arguments.adaptation
        choice, tried = self._choose(kind, links)
        self.say(f"{kind}, {choice}; {', '.join(f'{share:g}' for share in how.fractions)} of the links")
        record.training[kind] = {"choice": str(choice), "tried": tried}
        for fraction, count, steps in zip(how.fractions, self.arguments.counts(), how.steps, strict=True):
            seeds, name = how.seeds if fraction < 1 else how.seeds[:1], row_name(self.label, kind, fraction)
            found: list[list[CellRecord]] = [[] for _ in classes]
            stops, vals = [], []
            for seed in seeds:
                done = self._train(kind, choice, links, count, steps, seed)
                stops.append(done.step)
                vals.append(round(done.val_db, 3))
                for number, (cell, part, h_past, _) in enumerate(classes):
                    contender = contender_of(name, AirlamPredictor(done.model), part, trained=done.trained)
                    found[number].append(measure_cell(cell, part, h_past, [contender]))
            settings = {"adaptation": str(choice), "links": count, "stopped_at": str(stops)}
            for into, of_seeds in zip(record.cells, found, strict=True):
                add_mean(into, name, of_seeds, settings)
            record.training[name] = {"links": count, "seeds": list(seeds), "stopped_at": stops, "val_db": vals}

    def _choose(self, kind: str, links: SiteLinks) -> tuple[Choice, dict[str, float]]:
        """The candidate with the lowest NMSE of the validation users, and what each of them reached [dB]."""
        how = self.arguments.adaptation
        candidates, number = how.choices(kind), how.fractions.index(how.choose_fraction)
        if len(candidates) == 1:
            return candidates[0], {}
        count, steps = self.arguments.counts()[number], how.steps[number]
        tried = {choice: self._train(kind, choice, links, count, steps, how.seeds[0]).val_db for choice in candidates}
        return min(tried, key=lambda choice: tried[choice]), {str(c): round(v, 3) for c, v in tried.items()}

    def _train(self, kind: str, choice: Choice, links: SiteLinks, count: int, steps: int, seed: int) -> Adapted:
        """One adaptation: to ``count`` training links, with ``steps`` steps."""
        start, how = self.shipped.model, self.arguments.adaptation
        if kind == "random-start":
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                start = self.shipped.model.untrained()
        share = torch.randperm(len(links.train), generator=torch.Generator().manual_seed(seed))[:count]
        return adapt(
            start,
            links.train[share],
            links.val,
            choice,
            steps=steps,
            batch_size=how.batch_size,
            history=self.arguments.sizes.history,
            csi_snr_db=self.arguments.conditions.csi_snr_db,
            seed=seed,
            precision=how.precision,
        )
