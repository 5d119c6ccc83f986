"""One speed of the coded link: the cell, and its record of lost blocks for every chain, SNR and MCS."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from airlam.channels import load_channel
from airlam.evaluation.benchmarks.beamforming.beliefs import halves, tones_of
from airlam.evaluation.benchmarks.beamforming.chains import Chain
from airlam.evaluation.benchmarks.beamforming.precoding import GROUPS_AT_ONCE, Served, Tuned, served
from airlam.evaluation.benchmarks.beamforming.predicted import predicted_sources
from airlam.evaluation.benchmarks.link_level.config import LinkLevelConfig, Transmission
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.checks import check_beams
from airlam.evaluation.engine.spectral_efficiency import Groups, group_users
from airlam.evaluation.results import LINK, SE, CellRecord, MethodFacts, Series, group_of
from airlam.evaluation.rows import bler_name
from airlam.link import CodedLink
from airlam.methods import find

TUNING_TONES = 4  # precoders are tuned on every 4th of the tones that carry data


def coded_link(config: LinkLevelConfig, mcs: int) -> CodedLink:
    """The coded link of one entry of the MCS table."""
    recipe = load_channel(config.scenario).recipe
    tones = load_channel({**recipe, **config.cells.channel_overrides}).num_subcarriers
    count = len(range(0, tones, config.link.tone_step))
    return CodedLink(mcs, mcs_table=config.link.mcs_table, num_subcarriers=count, num_symbols=config.link.num_symbols)


def plan(config: LinkLevelConfig) -> list[Cell]:
    """One cell for each speed."""
    cells, sizes, link, out = config.cells, config.sizes, config.link, []
    what = f"mcs {list(link.mcs)} of table {link.mcs_table}, {link.num_symbols} symbols, chosen on {sizes.num_choose}"
    for speed in cells.speeds_kmh:
        recipe = {**load_channel(config.scenario).recipe, "speed_kmh": speed, **cells.channel_overrides}
        recipe = load_channel({**recipe, "links_per_drop": sizes.links_per_drop}).recipe
        out.append(
            Cell(
                group="link",
                data=config.scenario,
                recipe=recipe,
                speed_kmh=speed,
                csi_snr_db=cells.csi_snr_db,
                num_links=sizes.num_links,
                num_tune=sizes.num_tune,
                history=sizes.history,
                horizon=sizes.horizon,
                num_future=sizes.horizon,
                methods=tuple(chain.name for chain in config.chains),
                users=(link.users,),
                transmit_snr_db=tuple(link.transmit_snr_db),
                headline_snr_db=link.transmit_snr_db[-1],
                tone_step=link.tone_step,
                seed=config.seed,
                label=what,
            )
        )
    return out


CHOOSING = "group on which the MCS is chosen"


def run_cell(cell: Cell, config: LinkLevelConfig, model: Any, learned: Any) -> CellRecord:
    """The record of one cell: of each chain the ``throughput`` of the judged groups, and the block error rate of each
    MCS on the groups on which the MCS is chosen.

    Args:
        model: the learned predictor. learned: the learned precoder.
    """
    start, users = time.perf_counter(), config.link.users
    # drops are independent: the first ones are judged, on the others the MCS is chosen
    links = cell.links("test", cell.num_links + config.sizes.num_choose)
    known = cell.links("tune", cell.num_tune)
    h_past, seen = cell.observe(links.h, "test")[0], cell.observe(known.h, "tune")[0]
    names = list(dict.fromkeys(chain.source for chain in config.chains))
    sources = predicted_sources(cell, links, h_past, (known, seen), {config.predictor_row[0]: model}, names)
    tones = tones_of(cell, links.h.shape[2])
    truth = links.h[:, cell.history :, tones]
    judged, choosing = split_groups(group_users(links.drop, users), cell.num_links)
    other = known[halves(known)[1]]
    tuning = other.h[:, cell.history :, tones], group_users(other.drop, users)
    coded = [coded_link(config, index) for index in config.link.mcs]
    drops = {
        LINK: links.drop[: cell.num_links].tolist(),
        group_of(users): judged.drop.tolist(),
        CHOOSING: choosing.drop.tolist(),
    }
    record = CellRecord(asdict(cell), drops)
    for chain in config.chains:
        source = sources[chain.source]
        trial, final = (served(source.test, truth, groups) for groups in (choosing, judged))
        known_groups = None
        if chain.precoder == "tuned" and source.tune is not None:
            known_groups = served(source.tune, *tuning).every_tone(TUNING_TONES)
        sent = send_all(cell, chain, learned, coded, trial, final, known_groups)
        chosen = [config.link.mcs[place] for place in sent.chosen]
        record.methods[chain.name] = MethodFacts({**source.settings, "mcs": chosen}, source.parameters)
        record.add(*sent.series(chain.name, cell, config.link, coded))
    record.extras["seconds"] = round(time.perf_counter() - start, 1)
    return record


@dataclass
class Sent:
    """Blocks of one chain.

    Attributes:
        errors: share of blocks lost on the groups on which the MCS is chosen ``[snr, mcs, group]``.
        lost: the same on the judged groups, with the MCS that was chosen ``[snr, group]``.
        chosen: the place of the MCS of each SNR among those that were tried.
    """

    errors: Tensor
    lost: Tensor
    chosen: list[int]

    def series(self, method: str, cell: Cell, link: Transmission, coded: list[CodedLink]) -> list[Series]:
        """Bits that arrive, summed over the users of a group, and the block error rates."""
        efficiency = torch.tensor([coded[place].efficiency for place in self.chosen]).double()
        arrived = link.users * efficiency * (1 - self.lost.double().mT)
        axis: dict[str, Any] = {"axis": list(cell.transmit_snr_db), "axis_name": "transmit SNR [dB]"}
        rates = [
            Series(method, bler_name(mcs), "1", self.errors[:, place].mT, CHOOSING, **axis)
            for place, mcs in enumerate(link.mcs)
        ]
        return [Series(method, "throughput", SE, arrived, group_of(link.users), **axis), *rates]


def send_all(
    cell: Cell,
    chain: Chain,
    learned: Any,
    coded: list[CodedLink],
    trial: Served,
    final: Served,
    tuning: Served | None,
) -> Sent:
    """What one chain loses at every SNR.

    Args:
        coded: links of the MCS that are tried. trial: groups on which the MCS is chosen. final: groups that are judged.
        tuning: groups on which a tuned precoder is tuned.
    """
    all_errors, lost, chosen = [], [], []
    told = chain.robust or chain.precoder == "tuned"
    for number, snr_db in enumerate(cell.transmit_snr_db):
        no = 10 ** (-snr_db / 10)
        if chain.precoder == "tuned":
            assert tuning is not None
            precoder: Any = Tuned.on(tuning, no)
        else:
            precoder = load_named(chain.precoder, learned)
        sent = partial(send, precoder=precoder, no=no, told=told, chain=chain.name)
        # every chain sends the same bits through the same noise
        seeds = [cell.stream(f"choosing {number} {place}") for place in range(len(coded))]
        errors = [sent(trial, link, seed=seed) for link, seed in zip(coded, seeds, strict=True)]
        best = best_entry(errors, [link.efficiency for link in coded])
        all_errors.append(torch.stack(errors))
        chosen.append(best)
        lost.append(sent(final, coded[best], seed=cell.stream(f"bits {number} {best}")))
    return Sent(torch.stack(all_errors), torch.stack(lost), chosen)


def split_groups(groups: Groups, num_links: int) -> tuple[Groups, Groups]:
    """Groups of the first ``num_links`` links, and the others."""
    first = groups.users[:, 0] < num_links
    return Groups(groups.users[first], groups.drop[first]), Groups(groups.users[~first], groups.drop[~first])


def load_named(name: str, learned: Any) -> Any:
    """A registered precoder by name; any other name is that of the learned one."""
    method = find(name, "precoder")
    return method.build() if method is not None and method.factory else learned


def send(groups: Served, link: Any, *, precoder: Any, no: float, told: bool, seed: int, chain: str) -> Tensor:
    """Share of blocks lost in each group ``[group]``, one block for each slot and user.

    Args:
        told: whether the precoder is told the covariance of the CSI's error. seed: of bits and noise.
        chain: its name, for errors.
    """
    generator, out = torch.Generator().manual_seed(seed), []
    for part in torch.arange(len(groups.h)).split(GROUPS_AT_ONCE):
        here = groups.part(part)
        spread = here.told(precoder) if told else None
        w = precoder.precode(here.h, 1.0, no, error_covariance=spread)
        w = check_beams(precoder, w, here.h, 1.0, chain).flatten(0, 1)
        found = link.block_errors(here.truth.squeeze(-2).flatten(0, 1), w, no, generator=generator)
        out.append(found.double().unflatten(0, (len(part), -1)).mean((1, 2)))
    return torch.cat(out)


def best_entry(errors: Sequence[Tensor], efficiency: Sequence[float]) -> int:
    """The place of the MCS with the highest throughput, from the share of blocks lost ``[group]`` with each of them."""
    arrived = [rate * float(1 - lost.mean()) for lost, rate in zip(errors, efficiency, strict=True)]
    return max(range(len(arrived)), key=lambda place: arrived[place])
