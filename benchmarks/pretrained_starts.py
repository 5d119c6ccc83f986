"""Pretrained against random start at a site: prediction, precoder, pilots and beams on 1, 5 and 10 % of its links.

    python -P benchmarks/pretrained_starts.py [--tasks prediction beams] [--sites uma] [--out runs/starts.json]

A site is one spatially consistent snapshot of TR 38.901: 1000 users may train, 64 choose the learning rate and when to
stop, 256 others judge. Prediction starts from all weights of airlam-tiny, the other networks from its backbone, with
their own layers drawn alike; the random start has the same shape. Both see the same batches for the same number of
steps, each with the best of three learning rates for that share, and the untrained start is a candidate, too. Prints a
line a share: the figure of the classical start, of both trained networks, and the paired difference with its 95 %
interval, over blocks of neighbouring users (prediction, beams) or over groups of users (precoder, pilots).
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from rich.console import Console
from torch import Tensor

from airlam.channels import LinkBatch, load_channel
from airlam.csi import measure, normalise
from airlam.data.batches import as_it_is
from airlam.evaluation.benchmarks.sites.users import BLOCK_M, user_blocks
from airlam.evaluation.engine.training import Choice, adapt
from airlam.io import write_json
from airlam.metrics import bootstrap_interval, sum_rate, user_rates
from airlam.models import LearnedPrecoder, load_checkpoint
from airlam.recipes import find_checkpoint
from airlam.tasks import Beamforming, BeamManagement, PilotBeamforming
from airlam.tasks.objectives import forecast_error

TRAIN, VAL, TEST, SHARES, SEED = 1000, 64, 256, (0.01, 0.05, 0.1), 17
RATES, LOOKS, BATCH, GROUP = (3e-4, 1e-3, 3e-3), 4, 24, 4
STEPS = {"prediction": 50, "precoder": 100, "pilots": 60, "beams": 100}
HISTORY = {"prediction": 16, "precoder": 16, "pilots": 1, "beams": 8}
UNITS = {"prediction": "NMSE [dB]", "precoder": "sum-SE", "pilots": "sum-SE", "beams": "top-1 [%]"}
NO = 0.01  # noise over transmit power: 20 dB
Users = list[LinkBatch]  # train, val, test


def site_users(task: str, site: str) -> Users:
    """Users of one site, split at random; for beams at 28 GHz, with and without line of sight."""
    count = TRAIN + VAL + TEST
    recipe = dict(load_channel(f"{site}_nlos").recipe)
    if task == "beams":
        tracks = load_channel("mixture_beam_management").recipe
        names = ("carrier_frequency", "num_subcarriers", "subcarrier_spacing", "slot_duration", "bs_panel")
        recipe |= {name: tracks[name] for name in names} | {"state": "random"}
    recipe |= {"spatial_consistency": True, "speed_kmh": [3, 60], "links_per_drop": count, "chunk": count}
    channel = load_channel(recipe)
    links = channel.sample(count, HISTORY[task] + (1 if task == "pilots" else 4), seed=SEED)
    links.h = normalise(links.h)[0]
    order = torch.randperm(count, generator=torch.Generator().manual_seed(SEED))
    return [links[part] for part in order.split([TRAIN, VAL, TEST])]


def batch_of(task: str, links: LinkBatch, users: Tensor, generator: torch.Generator) -> dict[str, Any]:
    """Some users as a batch of a task. In pilots half of them only tell the covariance of the cell."""
    history, h = HISTORY[task], links.h[users]
    return {
        "h_past": measure(h[:, :history], 20.0, generator),
        "h_past_true": h[:, :history],
        "h_future": h[:, history:],
        "csi_snr_db": torch.full((len(users),), 20.0),
        "drop": (torch.arange(len(users)) >= len(users) // 2).long() if task == "pilots" else links.drop[users],
        "port_shape": links.port_shape,
    }


def batches(task: str, links: LinkBatch, steps: int) -> Iterator[dict[str, Any]]:
    """The same batches for every start and rate."""
    generator = torch.Generator().manual_seed(SEED)
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(steps):
        if len(order) < min(BATCH, len(links)):
            order = torch.cat([order, torch.randperm(len(links), generator=generator)])
        users, order = order[:BATCH], order[BATCH:]
        yield batch_of(task, links, users, generator)


class Judge:
    """Figures of some users, always with the same noise, pilots, sweeps and groups; larger is better.

    Args:
        links: the users. others: in pilots they tell the covariance of the cell. draws: of pilots or sweeps.
    """

    def __init__(self, task: str, links: LinkBatch, others: LinkBatch, draws: int):
        self.task, self.links, self.others, self.draws = task, links, others, draws
        self.kept: list[Any] = []

    def __call__(self, run: Any, start: bool = False) -> Tensor:
        """``[group]`` [bit/s/Hz] of precoder and pilots, ``[user]`` of beams [%]; ``start``: of the classical start."""
        with torch.no_grad():
            training = run.model.training
            run.model.eval()
            out = {"precoder": self._precoder, "pilots": self._pilots, "beams": self._beams}[self.task](run, start)
            run.model.train(training)
        return out

    def _precoder(self, run: Beamforming, start: bool) -> Tensor:
        if not self.kept:
            generator = torch.Generator().manual_seed(1)
            batch = batch_of(self.task, self.links, torch.arange(len(self.links)), generator)
            parts = run.believe(batch, "predicted", generator)
            self.kept = [x.unflatten(0, (-1, GROUP)).movedim(1, 3).flatten(1, 2) for x in parts]
        truth, csi, covariance = self.kept  # [group, slot x tone, user, ...]
        if start:
            w = run.model(csi, 1.0, NO, covariance)[0]
        else:
            w = LearnedPrecoder(run.model).precode(csi, 1.0, NO, error_covariance=covariance)
        return sum_rate(truth, w, NO).mean(1)

    def _pilots(self, run: PilotBeamforming, start: bool) -> Tensor:
        if not self.kept:
            known, mine = (
                batch_of(self.task, x, torch.arange(len(x)), torch.Generator()) for x in (self.others, self.links)
            )
            both = {k: torch.cat([known[k], mine[k]]) if torch.is_tensor(mine[k]) else mine[k] for k in mine}
            both["drop"] = (torch.arange(len(both["drop"])) >= len(known["drop"])).long()
            self.kept = [run._pilots(both, torch.Generator().manual_seed(n)) for n in range(self.draws)]
        rates = []
        for pilots in self.kept:
            h, covariance, _ = run._estimate(pilots, correction=not start)
            rows, truth, spread = (
                x[:, ::12].unflatten(0, (-1, GROUP)).transpose(1, 2) for x in (h, pilots["truth"], covariance)
            )
            w = run._frozen[0](rows, 1.0, NO, spread)[-1]
            rates.append(user_rates(truth, w, NO).sum(-1).mean(1))
        return torch.stack(rates).mean(0)

    def _beams(self, run: BeamManagement, start: bool) -> Tensor:
        if not self.kept:
            batch = batch_of(self.task, self.links, torch.arange(len(self.links)), torch.Generator().manual_seed(1))
            self.kept = [run._draw(batch, torch.Generator().manual_seed(n)) for n in range(self.draws)]
        hits = []
        for d in self.kept:
            best = d["future"].argmax(-1)
            if start:
                scores = run.model.start.scores(d["power"], d["measured"], best.shape[1])
            else:
                scores = run.model(d["power"], d["measured"], port_shape=d["port_shape"])
            hits.append(100 * (scores.argmax(-1) == best).float().mean(1))
        return torch.stack(hits).mean(0)


class CachedBeamforming(Beamforming):
    """The CSI that a batch gives is computed once: every start and rate sees the same batches."""

    known: dict[int, Any] = {}

    def believe(self, batch: dict[str, Any], source: str, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        key = id(batch["h_past"])
        if key not in self.known:
            own = torch.Generator().manual_seed(len(self.known))
            self.known[key] = batch, super().believe(batch, source, own)
        return self.known[key][1]


class KeepBest(L.Callback):
    """Looks at the validation users a few times and keeps the best weights in memory; the start is the first look."""

    def __init__(self, judge: Judge, steps: int):
        self.judge, self.looks = judge, {round(steps * (n + 1) / LOOKS) for n in range(LOOKS)}
        self.best, self.step, self.state = -torch.inf, 0, {}

    def _look(self, run: Any, step: int) -> None:
        reached = float(self.judge(run).mean())
        if reached > self.best:
            self.best, self.step = reached, step
            self.state = {name: value.detach().clone() for name, value in run.model.state_dict().items()}

    def on_train_start(self, trainer: L.Trainer, run: Any) -> None:
        self._look(run, 0)

    def on_train_batch_end(self, trainer: L.Trainer, run: Any, *_: Any) -> None:
        if trainer.global_step in self.looks:
            self._look(run, trainer.global_step)

    def on_train_end(self, trainer: L.Trainer, run: Any) -> None:
        run.model.load_state_dict(self.state)


def new_run(task: str, backbone: str | None, rate: float) -> Any:
    """The Lightning module of a task on a pretrained or a random backbone, its own layers drawn alike."""
    torch.manual_seed(SEED)
    how: dict[str, Any] = dict(backbone=backbone, learning_rate=rate, warmup_steps=STEPS[task] // 10)
    if task == "precoder":
        return CachedBeamforming(groups=32, users=(2, 8), subcarriers=4, sources={"predicted": 1.0}, **how)
    if task == "pilots":
        return PilotBeamforming(users=(2, 5), groups=32, unknown_covariance=0.0, **how)
    return BeamManagement(model={"history": 8, "horizon": 4}, beams_per_sweep=(8, 16), snr_db=(-5, 5), **how)


def train(task: str, start: str, rate: float, data: list[dict[str, Any]], judge: Judge) -> tuple[float, Any, int]:
    """Validation figure, the trained module, and the step that was kept."""
    run, keep = new_run(task, "airlam-tiny" if start == "pretrained" else None, rate), KeepBest(judge, STEPS[task])
    loader = torch.utils.data.DataLoader(data, batch_size=None, collate_fn=as_it_is)  # type: ignore[arg-type]
    L.Trainer(
        max_steps=STEPS[task], accelerator="cpu", gradient_clip_val=1.0, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[keep],
    ).fit(run, loader)  # fmt: skip
    return keep.best, run, keep.step


def train_predictor(start: str, rate: float, links: LinkBatch, users: Users) -> tuple[float, Any, int]:
    """As :func:`train`; the figure is minus the NMSE in dB."""
    model = load_checkpoint(find_checkpoint("airlam-tiny"))
    if start == "random":
        torch.manual_seed(SEED)
        model = model.untrained()
    how: dict[str, Any] = dict(steps=STEPS["prediction"], batch_size=16, history=16, csi_snr_db=20.0)
    done = adapt(model, links, users[1], Choice(rate), seed=SEED, precision="bfloat16", **how)
    return -done.val_db, done.model, done.step


def predictor_nmse_db(model: Any, links: LinkBatch, start: bool = False) -> Tensor:
    """NMSE of each user [dB]."""
    past, errors = measure(links.h[:, :16], 20.0, torch.Generator().manual_seed(SEED)), []
    with torch.no_grad():
        for part in torch.arange(len(past)).split(32):
            error = forecast_error(model, past[part], links.h[part, 16:], links.port_shape)
            errors.append(error.start if start else error.nmse)
    return 10 * torch.cat(errors).log10()


def compare(task: str, site: str, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """The lines of one task at one site."""
    users = site_users(task, site)
    groups = user_blocks(users[2].position, BLOCK_M.get(site, 50.0)) if task in ("prediction", "beams") else None
    if task == "prediction":
        shipped, sign = load_checkpoint(find_checkpoint("airlam-tiny")), -1.0
        classical = -float(predictor_nmse_db(shipped, users[2], start=True).mean())
    else:
        val, test, sign = (
            Judge(task, users[1], users[0], 1 if task == "pilots" else 2),
            Judge(task, users[2], users[0], 2 if task == "pilots" else 4),
            1.0,
        )
        classical = float(test(new_run(task, None, RATES[0]), start=True).mean())
    lines = []
    for share in SHARES:
        links = users[0][: round(share * TRAIN)]
        data = list(batches(task, links, STEPS[task]))
        CachedBeamforming.known.clear()
        reached, chosen = {}, {}
        for start in ("pretrained", "random"):
            tried: dict[float, tuple[float, Any, int]] = {}
            for rate in RATES:
                if task == "prediction":
                    tried[rate] = train_predictor(start, rate, links, users)
                else:
                    tried[rate] = train(task, start, rate, data, val)
            rate = max(tried, key=lambda rate: tried[rate][0])
            _, model, step = tried[rate]
            chosen[start] = f"{rate:g}, {step}"
            reached[start] = -predictor_nmse_db(model, users[2]) if task == "prediction" else test(model)
        gain = bootstrap_interval(reached["pretrained"] - reached["random"], groups=groups)
        means = {"classical start": sign * classical} | {k: sign * float(v.mean()) for k, v in reached.items()}
        facts = {"task": task, "unit": UNITS[task], "site": site, "share": share, "links": len(links)}
        lines.append({**facts, **means, "gain": list(gain), "rate and step": chosen})
        say(
            f"| {task}, {UNITS[task]} | {site} | {100 * share:g} % ({len(links)}) | "
            + " | ".join(f"{value:.2f}" for value in means.values())
            + f" | {gain.estimate:+.2f} ({gain.low:+.2f} to {gain.high:+.2f}) | {'; '.join(chosen.values())} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(STEPS), choices=list(STEPS))
    parser.add_argument("--sites", nargs="+", default=["uma"], choices=["uma", "umi", "inf"])
    parser.add_argument("--out", type=Path, default=Path("runs/pretrained_starts.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    console = Console(width=240, highlight=False)
    console.print("| task | site | links | classical start | pretrained | random | gain | rate, kept step: both |")
    console.print("|---|---|---|---|---|---|---|---|")
    found: list[dict[str, Any]] = []
    for task in arguments.tasks:
        for site in arguments.sites:
            found += compare(task, site, console.print)
            write_json(arguments.out, {"lines": found})


if __name__ == "__main__":
    main()
