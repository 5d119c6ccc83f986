"""Sources of CSI about the slot that is measured itself, for users that stand still: from noisy CSI, or from pilots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from airlam.baselines import TrainingLMMSE
from airlam.baselines.denoising import BeamDelayThreshold
from airlam.channels import LinkBatch
from airlam.csi import observe_pilots, phase_combiner
from airlam.evaluation.benchmarks.beamforming.beliefs import Belief, Source, halves, tones_of
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.contenders import OFF

THRESHOLDS = (1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0)


def denoised_sources(
    cell: Cell,
    links: LinkBatch,
    h_past: Tensor,
    tuning: tuple[LinkBatch, Tensor],
    models: Mapping[str, Any],
    names: Sequence[str],
    networks: Mapping[str, Any],
) -> dict[str, Source]:
    """Beliefs about the last measured slot itself, for users that stand still.

    The noise's variance is known. ``threshold`` is tuned, and ``lmmse`` trained, on half of the validation drops; the
    covariance of its errors is what the estimate itself says, that of ``threshold`` is taken there. Networks that read
    pilots know the covariances of the same half.
    """
    known, seen = tuning
    fit, choose = halves(known)
    out, tones, noise = {}, tones_of(cell, links.h.shape[2]), 10 ** (-cell.csi_snr_db / 10)
    shape, ports = links.port_shape, links.h.shape[-1]
    noisy, noisy_fit, noisy_tune = h_past[:, -1:], seen[fit, -1:], seen[choose, -1:]
    truth = known.h[fit, cell.history - 1 : cell.history]
    filters = TrainingLMMSE.of(known.h[fit])
    for name in names:
        if name == "perfect":
            now = slice(cell.history - 1, cell.history)
            out[name] = Source(Belief(links.h[:, now, tones]), Belief(known.h[choose][:, now, tones]))
        elif name == "raw":
            white = noise * torch.eye(ports, dtype=h_past.dtype)
            out[name] = Source(Belief(noisy[:, :, tones], white), Belief(noisy_tune[:, :, tones], white))
        elif name == "threshold":
            chosen = tuned_threshold(noisy_fit, truth, noise, shape)
            error = chosen.denoise(noisy_fit, noise, shape) - truth
            spread = torch.einsum("ltfra,ltfrb->ab", error.conj(), error) / (error.numel() / ports)
            tune = chosen.denoise(noisy_tune, noise, shape)
            test = chosen.denoise(noisy, noise, shape)
            out[name] = Source(
                Belief(test[:, :, tones], spread), Belief(tune[:, :, tones], spread), {"factor": chosen.factor}
            )
        elif name == "lmmse":
            spread = filters.covariance(noise)[None][..., tones, :, :, :].to(h_past.dtype)
            test, tune = (filters.denoise(x, noise, shape)[:, :, tones] for x in (noisy, noisy_tune))
            out[name] = Source(Belief(test, spread), Belief(tune, spread))
        elif name in networks:
            # every antenna heard alone: as many pilots as antennas
            single = torch.eye(ports, dtype=h_past.dtype)
            out[name] = _read(networks[name], noisy[:, 0, :, 0], single, noise, shape, filters, tones)
        else:
            from airlam.models import AirlamEstimator

            estimator = AirlamEstimator(models[name].model, chunk=16)
            csi, covariance = estimator.estimate_with_covariance(noisy, port_shape=shape)
            size = sum(p.numel() for p in models[name].model.parameters())
            out[name] = Source(Belief(csi[:, :, tones], covariance[:, :, tones]), parameters=size)
    return out


def tuned_threshold(noisy: Tensor, truth: Tensor, noise: float, port_shape: Any) -> BeamDelayThreshold:
    """The denoiser with the threshold of the lowest error on these links."""

    def error(factor: float) -> float:
        return float((BeamDelayThreshold(factor).denoise(noisy, noise, port_shape) - truth).abs().square().mean())

    return BeamDelayThreshold(min(THRESHOLDS, key=error))


def pilot_sources(
    cell: Cell,
    links: LinkBatch,
    tuning: LinkBatch,
    networks: Mapping[str, Any],
    names: Sequence[str],
) -> dict[str, Source]:
    """Beliefs about one slot from ``cell.num_pilots`` uplink pilots of each user, at the cell's CSI SNR, through a
    combiner of random phases: ``ls`` (least norm), ``lmmse`` with the covariance of half of the validation drops, and
    networks that know the same covariances."""
    out, tones, noise = {}, tones_of(cell, links.h.shape[2]), 10 ** (-cell.csi_snr_db / 10)
    fit, choose = halves(tuning)
    generator = torch.Generator().manual_seed(cell.stream("pilots"))
    combiner = phase_combiner(cell.num_pilots, links.h.shape[-1], generator)
    h, known = (x[:, cell.history - 1, :, 0] for x in (links.h, tuning.h))
    y, y_tune = (observe_pilots(x, combiner, noise, generator) for x in (h, known[choose]))
    filters = TrainingLMMSE.of(known[fit][:, None, :, None])

    def belief(x: Tensor, spread: Tensor | None = None) -> Belief:
        return Belief(x[:, None, tones, None], spread)

    for name in names:
        if name == "perfect":
            out[name] = Source(belief(h), belief(known[choose]))
        elif name == "ls":
            least = torch.linalg.pinv(combiner).mT
            out[name] = Source(belief(y @ least), belief(y_tune @ least))
        elif name == "lmmse":
            found = [filters.from_pilots(x, combiner, noise) for x in (y, y_tune)]
            spread = found[0][1][tones].to(h.dtype)[None, None, :, None]
            out[name] = Source(belief(found[0][0], spread), belief(found[1][0], spread))
        else:
            network, on = networks[name.removesuffix(OFF)], not name.endswith(OFF)
            out[name] = _read(network, y, combiner, noise, links.port_shape, filters, tones, correction=on)
    return out


def _read(
    network: Any,
    y: Tensor,
    combiner: Tensor,
    noise: float,
    port_shape: Any,
    filters: TrainingLMMSE,
    tones: Tensor,
    correction: bool = True,
) -> Source:
    """What a network that reads pilots believes of ``y [link, subcarrier, pilot]``."""
    known = {"antenna_covariance": filters.antenna, "tone_covariance": filters.frequency}
    with torch.inference_mode():
        parts = [
            network(part, combiner, noise, port_shape=port_shape, correction=correction, **known)
            for part in y.split(16)
        ]
    csi, spread = (torch.cat(kind) for kind in zip(*parts, strict=True))
    size = sum(p.numel() for p in network.parameters())
    return Source(Belief(csi[:, None, tones, None], spread[:, None, tones, None]), parameters=size)
