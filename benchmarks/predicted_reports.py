"""Who should predict in FDD: the user before it reports, or the base station from old reports? At equal bits.

    python -P benchmarks/predicted_reports.py [--bits 128] [--links 64] [--scenarios uma_nlos umi_nlos]

A user measures its channel every 0.5 ms at 20 dB and reports in --bits bits every 2 ms; the newest report is used 4 and
8 ms later. Whatever the rule, the report is one of the context codec. Prints SGCS and sum-SE of four users (RZF that
knows the mean quality of the reports) with gains over reports of what was measured last; 95 % intervals over drops.

- *measured*: the report of the last slot, used as it is.
- *user, NAME*: the predictor sees the last 16 slots and predicts the slot of use; that is reported.
- *base station, NAME*: the base station sees the last 16 reports, their unknown phases turned to the newest's.

Settings of AR predictors, which phases are turned and how fast a mean forgets are chosen on links of other drops, for
each scenario, speed and age.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import product

import numpy as np
import torch
import yaml
from torch import Tensor

import airlam
from airlam.csi import measure, subband_eigenvectors, turn_to_last
from airlam.evaluation import CompressionBenchmark
from airlam.evaluation.benchmarks.csi_compression.cell import Scene, _cell, _judge, coded
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.contenders import context_of, tuned
from airlam.evaluation.engine.spectral_efficiency import group_users
from airlam.evaluation.results import LINK, CellRecord, group_of
from airlam.methods import get
from airlam.metrics import sgcs
from airlam.models.csi_codec import ContextCodec
from airlam.recipes import find_recipe

PERIOD, REPORTS, HISTORY = 4, 16, 16  # slots between reports; reports and slots that a predictor sees
AGES = (8, 16)  # slots from the newest report to its use
NOW = PERIOD * (REPORTS - 1)  # the slot of the newest report
USER = ("eigen-ar", "airlam-tiny", "airlam-paths")
BASE = ("ar", "eigen-ar", "airlam-tiny", "mean")
# settings of AR predictors over reports; a whole grid would be tried some thousand times here
SETTINGS = {"order": (1, 2, 4), "ridge": (1e-3, 1e-2, 0.1, 0.3), "shrinkage": (3.0, float("inf"))}
FORGETTING = (0.5, 0.7, 0.85, 0.95)  # of a mean over reports: weight of each report over that of the next


class Moving(Scene):
    """Links over time, all slots measured; :meth:`use` says at which slot the newest report is used."""

    def __init__(self, cell: Cell, purpose: str, num_links: int):
        self.links = cell.links(purpose, num_links)
        generator = torch.Generator().manual_seed(cell.stream(purpose + " noise"))
        self.drop, self.port_shape, self.subband = self.links.drop, self.links.port_shape, cell.tone_step
        self.past = measure(self.links.h[:, : NOW + 1], cell.csi_snr_db, generator)
        self.use(0)

    def use(self, age: int) -> None:
        self.h = self.links.h[:, NOW + age]
        self.wanted = self.vectors(self.h)

    def vectors(self, h: Tensor) -> Tensor:
        return subband_eigenvectors(h, self.subband)


def told_series(scene: Moving, codec: ContextCodec) -> Tensor:
    """All reports that the base station has, ``[link, report, subband, tx_ant]``, the newest last."""
    seen = scene.vectors(scene.past[:, ::PERIOD].flatten(0, 1))
    ready = codec.for_array(scene.port_shape, seen.shape[1])
    return coded(ready, seen)[0].squeeze(-1).unflatten(0, (-1, REPORTS))


def turned(series: Tensor, each_subband: bool) -> Tensor:
    """Reports as CSI ``[link, report, subband, 1, tx_ant]`` in phase with the newest, all subbands at once or each."""
    h = series.conj().unsqueeze(-2)
    if not each_subband:
        return turn_to_last(h)
    alone = turn_to_last(h.transpose(1, 2).flatten(0, 1).unsqueeze(2))  # [link subband, report, 1, 1, tx_ant]
    return alone.squeeze(2).unflatten(0, (len(h), -1)).transpose(1, 2)


def rules(name: str) -> Iterator[Callable[[Tensor, int, Moving], Tensor]]:
    """What the base station may do with a series of reports; gives the vectors ``[link, subband, tx_ant, 1]``."""
    if name == "mean":
        for rate in FORGETTING:
            yield partial(dominant, rate)
        return
    grid = {} if name == "airlam-tiny" else SETTINGS
    for values in product(*grid.values()):
        options = dict(zip(grid, values, strict=True))
        predictor = get(name, "predictor").build(**options) if grid else airlam.load_predictor(name)
        for each_subband in (False, True):
            yield partial(extrapolated, predictor, each_subband)


def dominant(rate: float, series: Tensor, age: int, scene: Moving) -> Tensor:
    """The strongest direction of the reports' projectors, the older the less."""
    weight = rate ** torch.arange(REPORTS - 1, -1, -1.0)
    v = (weight.sqrt()[:, None, None] * series).transpose(1, 2)  # [link, subband, report, tx_ant]
    return torch.linalg.svd(v, full_matrices=False).Vh[..., :1, :].mT


def extrapolated(predictor, each_subband: bool, series: Tensor, age: int, scene: Moving) -> Tensor:
    """What a predictor of CSI says of the reports after the newest one."""
    steps = age // PERIOD
    context = context_of(scene.links)
    context |= {
        "slot_duration": PERIOD * scene.links.slot_duration,
        "subcarrier_spacing": scene.subband * scene.links.subcarrier_spacing,
    }
    h = predictor.predict(turned(series, each_subband), steps, port_shape=scene.port_shape, context=context)
    return unit(h[:, -1].squeeze(-2).conj())


def unit(v: Tensor) -> Tensor:
    return (v / torch.linalg.vector_norm(v, dim=-1, keepdim=True).clamp_min(1e-30)).unsqueeze(-1)


def predicted(scene: Moving, predictor) -> Tensor:
    """Vectors that a user predicts for every slot after the newest report, ``[slot, link, subband, tx_ant, 1]``."""
    past = scene.past[:, -HISTORY:]
    h = predictor.predict(past, max(AGES), port_shape=scene.port_shape, context=context_of(scene.links))
    return torch.stack([scene.vectors(h[:, age - 1]) for age in AGES])


def compare(cell: Cell, bits: int) -> None:
    codec = ContextCodec(bits)
    scenes = {purpose: Moving(cell, purpose, cell.num_links) for purpose in ("test", "tune")}
    test, tune = scenes["test"], scenes["tune"]
    ready = codec.for_array(test.port_shape, test.wanted.shape[1])
    groups = group_users(test.drop, cell.users[0])
    series = {purpose: told_series(scene, codec) for purpose, scene in scenes.items()}

    told = {"measured": {p: [s[:, -1].unsqueeze(-1)] * len(AGES) for p, s in series.items()}}
    future = tune.links.h[:, NOW + 1 :]
    for name in USER:
        if name == "eigen-ar":
            past = tune.past[:, -HISTORY:]
            predictor, _ = tuned(name, past, future, port_shape=tune.port_shape, context=context_of(tune.links))
        else:
            predictor = airlam.load_predictor(name)
        told[f"user, {name}"] = {p: [coded(ready, v)[0] for v in predicted(s, predictor)] for p, s in scenes.items()}
    choices = {name: list(rules(name)) for name in BASE}
    for at, age in enumerate(AGES):
        for name, ways in choices.items():
            tune.use(age)
            best = max(ways, key=lambda way: float(sgcs(way(series["tune"], age, tune), tune.wanted).mean()))
            row = told.setdefault(f"base station, {name}", {"test": [], "tune": []})
            for purpose, scene in scenes.items():
                row[purpose].append(best(series[purpose], age, scene))

        test.use(age)
        tune.use(age)
        record = CellRecord(asdict(cell), {LINK: test.drop.tolist(), group_of(cell.users[0]): groups.drop.tolist()})
        for name, of in told.items():
            _judge(record, name, of["test"][at], tune.quality(of["tune"][at]), test, groups)
        for name in told:
            words = [
                f"{metric} {gain(record, name, metric, per)}"
                for metric, per in (("sgcs", LINK), ("sum_se", group_of(cell.users[0])))
            ]
            when = f"{cell.data}, {cell.speed_kmh:g} km/h, {bits} bits, {age / 2:g} ms"
            print(f"{when}: {name:27} {'; '.join(words)}", flush=True)


def gain(record: CellRecord, name: str, metric: str, per: str) -> str:
    """Mean, and the gain over reports of what was measured, with its interval over drops."""
    drop = np.asarray(record.drop(per))
    before, after = (np.asarray(record.find(row, metric, per).values, float) for row in ("measured", name))
    change = after - before
    means = np.array([change[drop == one].mean() for one in np.unique(drop)])
    drawn = means[np.random.default_rng(0).integers(0, len(means), (2000, len(means)))].mean(1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{after.mean():.3f} ({change.mean():+.3f}, {low:+.3f} to {high:+.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bits", type=int, default=128)
    parser.add_argument("--links", type=int, default=64)
    parser.add_argument("--scenarios", nargs="+", default=["uma_nlos", "umi_nlos"])
    parser.add_argument("--speeds", type=float, nargs="+", default=[3, 10, 30, 60])
    options = parser.parse_args()
    torch.set_num_threads(1)
    arguments = yaml.safe_load(find_recipe("tasks/csi_compression/benchmark.yaml").read_text())["init_args"]
    arguments["sizes"] |= {"num_links": options.links, "num_tune": options.links}
    config = CompressionBenchmark(**arguments)
    for scenario in options.scenarios:
        for speed in options.speeds:
            slots = {"history": NOW + 1, "horizon": max(AGES), "num_future": max(AGES)}
            with torch.inference_mode():
                compare(_cell(config, scenario, speed, **slots), options.bits)


if __name__ == "__main__":
    main()
