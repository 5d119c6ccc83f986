"""The record of one cell: every chain on the same links and noise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from airlam.baselines import dpc_sum_capacity
from airlam.channels import LinkBatch
from airlam.evaluation.benchmarks.beamforming.beliefs import Source, halves, tones_of
from airlam.evaluation.benchmarks.beamforming.chains import Chain
from airlam.evaluation.benchmarks.beamforming.precoding import WMMSE_ITERATIONS, Served, Tuned, rates_of, served
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.contenders import size
from airlam.evaluation.engine.measure import add_rates, new_record
from airlam.evaluation.engine.spectral_efficiency import group_users
from airlam.evaluation.engine.timing import cell_figure, latency_series
from airlam.evaluation.results import CellRecord, MethodFacts, Series
from airlam.interfaces import Precoder
from airlam.loading import load_precoder
from airlam.metrics import measure_latency

TIMED_ITERATIONS = 10  # of which latency is, as of load_precoder("wmmse")


def measure_chains(
    cell: Cell,
    links: LinkBatch,
    sources: Mapping[str, Source],
    chains: Sequence[Chain],
    learned: Mapping[str, Precoder],
    tuning: LinkBatch,
) -> CellRecord:
    """The record of one cell, in the form of :func:`airlam.evaluation.engine.measure.measure_cell`'s.

    Args:
        sources: by name, see :func:`predicted_sources` and :func:`denoised_sources`.
        learned: learned precoders by name. tuning: validation drops of the cell.
    """
    tones = tones_of(cell, links.h.shape[2])
    present = cell.group in ("static", "pilots")  # the last slot itself is served, not the future
    first = cell.history - present
    tuning = tuning[halves(tuning)[1]]
    truth, known = links.h[:, first:, tones], tuning.h[:, first:, tones]
    if present:
        truth, known = truth[:, :1], known[:, :1]
    groups = {users: group_users(links.drop, users) for users in cell.users}
    tune_groups = {users: group_users(tuning.drop, users) for users in cell.users}
    record = new_record(cell, links, groups)
    for chain in chains:
        start, source = time.perf_counter(), sources[chain.source]
        precoder = fixed_precoder(chain, learned, links.port_shape)
        settings = dict(source.settings)
        for users, found in groups.items():
            here = served(source.test, truth, found)
            tuned_on = None
            if chain.precoder == "tuned":
                assert source.tune is not None
                tuned_on = served(source.tune, known, tune_groups[users])
            rates, used = serve(cell, chain, precoder, here, tuned_on)
            add_rates(record, chain.name, rates, cell.headline_snr_db)
            if tuned_on is not None:
                settings[f"{users} users"] = " ".join(f"{v}" for v in used.settings.values())
            if cell.timed and source.once is not None and users == cell.users[0]:
                timed = load_precoder("wmmse") if chain.precoder == "wmmse" else used
                timed = Tuned(timed.choice, TIMED_ITERATIONS) if isinstance(timed, Tuned) else timed
                record.add(*_time_chain(chain, source.once, timed, here, cell))
        seconds = round(time.perf_counter() - start, 3)
        record.methods[chain.name] = MethodFacts(settings, source.parameters + size(precoder), 0, seconds)
    return record


def is_told(chain: Chain) -> bool:
    """Whether the precoder is handed the covariance of the CSI's error."""
    return chain.robust or chain.precoder == "tuned"


def fixed_precoder(chain: Chain, learned: Mapping[str, Precoder], port_shape: Any) -> Any:
    """The precoder of a chain: a learned one, or a registered one by name; None for those that differ by SNR."""
    if chain.precoder in learned:
        return learned[chain.precoder]
    if chain.precoder in ("tuned", "dpc"):
        return None
    options: dict[str, dict[str, Any]] = {
        "type1": {"port_shape": port_shape},
        "wmmse": {"num_iterations": WMMSE_ITERATIONS},
    }
    return load_precoder(chain.precoder, **options.get(chain.precoder, {}))


def serve(
    cell: Cell, chain: Chain, precoder: Any, groups: Served, tuned_on: Served | None
) -> tuple[dict[float, Tensor], Any]:
    """Rates ``[group, user, slot]`` of groups with one chain by SNR, and the precoder used at the headline SNR.

    Args:
        precoder: see :func:`fixed_precoder`. tuned_on: groups on which a tuned precoder is tuned at each SNR.
    """
    rates, used = {}, precoder
    for snr_db in cell.transmit_snr_db:
        no = 10 ** (-snr_db / 10)
        if chain.precoder == "dpc":
            rates[snr_db] = _dpc(groups, no)
            continue
        here = Tuned.on(tuned_on, no) if tuned_on is not None else precoder
        used = here if snr_db == cell.headline_snr_db else used
        rates[snr_db] = rates_of(here, groups, no, covariance=is_told(chain), chain=chain.name)
    return rates, used


def _dpc(groups: Served, no: float) -> Tensor:
    """Dirty-paper sum capacity, in equal shares as if it were users' rates ``[group, user, slot]``."""
    truth = groups.truth.squeeze(-2) if groups.truth.shape[-2] == 1 else groups.truth
    value = dpc_sum_capacity(truth, 1.0, no, rx_axis=truth.dim() == 6)
    assert isinstance(value, Tensor)  # and no certificate beside it
    users = truth.shape[3]
    return (value / users).mean(2)[:, None].expand(-1, users, -1)


def _time_chain(chain: Chain, once: Callable, precoder: Any, groups: Served, cell: Cell) -> list[Series]:
    """Latency of predicting one user, and of precoding one slot of a group on the tones of the cell."""
    h, no, told = groups.h[:1, :1], 10 ** (-cell.headline_snr_db / 10), is_told(chain)
    spread = groups.told(precoder) if told else None
    spread = None if spread is None else spread[:1, :1]
    predict = measure_latency(lambda: once(told), warmup=3, repeats=50, threads=1)
    precode = measure_latency(
        lambda: precoder.precode(h, 1.0, no, error_covariance=spread), warmup=3, repeats=50, threads=1
    )
    return [
        *latency_series(chain.name, predict, precode),
        cell_figure(chain.name, "precoding_p50_ms", 1e3 * precode.p50, "ms"),
    ]
