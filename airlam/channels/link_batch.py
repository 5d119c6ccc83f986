"""What a channel model returns: CSI with the truth about every link."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from airlam.csi import PortShape


@dataclass
class Rays:
    """The rays that made a batch of links: what a genie may know, and (apart) what it may not.

    The CSI of a link at slot ``t`` and subcarrier ``k`` (baseband frequency ``f = (k - num_subcarriers // 2) *
    subcarrier_spacing``) is::

        h[t, k] = sum_r c_r exp(+j 2 pi doppler_r t slot_duration) exp(-j 2 pi f delay_r) array_r

    The ``c_r`` are independent with zero mean and ``E|c_r|^2 = power_r``. There is one atom per ray and polarisation
    component that carries its own random phase (TR 38.901 clause 7.5, step 11), and one for the line of sight. Pairs
    whose array vectors are parallel (one polarisation at an end) are one atom. Links with fewer atoms are padded by
    atoms without power.

    Attributes:
        delay: ``[link, atom]`` s.
        doppler: ``[link, atom]`` Hz.
        power: ``[link, atom]``, scaled as ``h`` is (each link has mean ``|h|^2 = 1``).
        array: ``complex64 [link, atom, rx_ant * tx_ant]``, receive antennas first.
        coefficient: ``complex64 [link, atom]``, the realised ``c_r``. A predictor must not look at it.
        cluster: ``int64 [link, atom]``, number of the atom's cluster (its sub-cluster where clusters split); the line
            of sight is one of its own.
    """

    delay: Tensor
    doppler: Tensor
    power: Tensor
    array: Tensor
    coefficient: Tensor
    cluster: Tensor

    def __getitem__(self, index) -> Rays:
        """The rays of some links (slice, list or tensor)."""
        return Rays(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    @staticmethod
    def concatenate(parts: list[Rays]) -> Rays:
        """Links of several batches, padded to the longest by atoms without power."""
        longest = max(part.power.shape[1] for part in parts)

        def padded(x: Tensor) -> Tensor:
            return torch.cat([x, x.new_zeros(x.shape[0], longest - x.shape[1], *x.shape[2:])], 1)

        return Rays(**{f.name: torch.cat([padded(getattr(p, f.name)) for p in parts]) for f in fields(Rays)})


@dataclass
class LinkBatch:
    """A batch of links with ground truth. All tensors are on the CPU, one link per entry.

    Attributes:
        h: ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``, each link scaled to mean ``|h|^2 = 1``.
        gain_db: ``[link]``, 10 log10 of the mean ``|h|^2`` before that scaling: path loss, shadowing, element patterns.
        path_loss_db: ``[link]``, TR 38.901 table 7.4.1-1 (and O2I loss), without shadowing; 0 where the model has none.
        speed: ``[link]`` m/s.
        los, indoor: ``bool [link]``.
        delay_spread: ``[link]`` s, RMS over the realised powers of all paths, line of sight included, before antennas.
        position: ``[link, 3]`` m; x and y from the base station, z the height above ground. Zeros for CDL and TDL.
        velocity: ``[link, 3]`` m/s.
        drop: ``int64 [link]``; links of one drop share a base station and one snapshot of the topology.
        carrier_frequency: Hz.
        slot_duration: s.
        subcarrier_spacing: Hz.
        port_shape: (polarisations, columns, rows) of the ``tx_ant`` axis.
        recipe: the resolved recipe, with ``seed``.
        rays: only with ``return_rays=True``.
    """

    h: Tensor
    gain_db: Tensor
    path_loss_db: Tensor
    speed: Tensor
    los: Tensor
    indoor: Tensor
    delay_spread: Tensor
    position: Tensor
    velocity: Tensor
    drop: Tensor
    carrier_frequency: float
    slot_duration: float
    subcarrier_spacing: float
    port_shape: PortShape
    recipe: dict = field(repr=False)
    rays: Rays | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.h.shape[0]

    def __getitem__(self, index) -> LinkBatch:
        """Some of the links (slice, list or tensor)."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values.update({name: value[index] for name, value in values.items() if isinstance(value, torch.Tensor)})
        values["rays"] = None if self.rays is None else self.rays[index]
        return LinkBatch(**values)

    @staticmethod
    def concatenate(parts: list[LinkBatch]) -> LinkBatch:
        """Links of several batches with the same antennas, tones, slots. Drops stay apart; the first recipe is kept."""
        values = {f.name: getattr(parts[0], f.name) for f in fields(LinkBatch)}
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and name != "drop":
                values[name] = torch.cat([getattr(part, name) for part in parts])
        drops, first = [], 0
        for part in parts:
            drops.append(part.drop - part.drop.min() + first)
            first = int(drops[-1].max()) + 1
        values["drop"] = torch.cat(drops)
        if all(part.rays is not None for part in parts):
            values["rays"] = Rays.concatenate([part.rays for part in parts if part.rays is not None])
        return LinkBatch(**values)
