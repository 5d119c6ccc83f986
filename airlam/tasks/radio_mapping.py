"""Radio maps: train a network that corrects kriging, at sites of many cities."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor

from airlam.csi import HeightMap
from airlam.csi.site_map import FLOOR_DB
from airlam.models import load_checkpoint
from airlam.models.radio_map import NEIGHBOURS, AirlamMap, AirlamMapConfig, MapInputs, map_loss, start_of
from airlam.recipes import find_checkpoint
from airlam.seeds import noise_seed
from airlam.tasks.optimisation import configured_adamw

JUDGED = (26, 77)  # measured places at validation


class RadioMapping(L.LightningModule):
    """Train an :class:`~airlam.models.radio_map.AirlamMap`.

    A batch is a list of regions with ``map`` (true :class:`~airlam.csi.SiteMap`), ``stations`` and ``heights``, as
    :class:`airlam.data.CityDataModule` makes them. In each, some stations are drawn, some places are measured, others
    are asked for.

    Args:
        backbone: checkpoint whose pretrained backbone is the start; None: random weights.
        model: arguments of :class:`~airlam.models.radio_map.AirlamMapConfig`.
        stations: drawn in each region. queries: places asked for.
        known: least and most measured places, but at most half of a region's; their number is uniform in its logarithm.
        csi_snr_db: least and most, at the strongest station of the median place.
        heights: False: the network and kriging are told of no height map.
        seed: of all that is drawn.
        learning_rate, warmup_steps, weight_decay: of AdamW; after the warm-up a cosine down to a hundredth.

    Logs ``train_loss``; ``val_rmse`` [dB] of the power, that of kriging ``val_rmse_kriging``, and ``val_similarity``.
    """

    def __init__(
        self,
        backbone: str | None = "airlam-tiny",
        model: dict[str, Any] | None = None,
        stations: int = 2,
        queries: int = 64,
        known: tuple[int, int] = (NEIGHBOURS, 200),
        csi_snr_db: tuple[float, float] = (30.0, 50.0),
        heights: bool = True,
        seed: int = 0,
        learning_rate: float = 1e-3,
        warmup_steps: int = 100,
        weight_decay: float = 0.05,
    ):
        super().__init__()
        if unknown := sorted(set(model or {}) - {"backbone", "beams"}):
            raise ValueError(f"model has no argument {unknown[0]!r}; it has backbone, beams")
        if not NEIGHBOURS <= known[0] <= known[1]:
            raise ValueError(f"known is {list(known)}, but must be [least, most] of at least {NEIGHBOURS}")
        self.save_hyperparameters()
        if backbone is None:
            made = AirlamMap(AirlamMapConfig(**(model or {})))
        else:
            made = AirlamMap.from_backbone(load_checkpoint(find_checkpoint(backbone)), **(model or {}))
        self.model = made.train()

    def training_step(self, batch: list[Any], batch_idx: int) -> Tensor:
        """Mean loss of the queries."""
        h = self.hparams
        generator = torch.Generator().manual_seed(noise_seed(h["seed"], self.global_step))
        parts, power, profile = [], [], []
        for region in batch:
            low, high = h["known"]
            count = round(low * (high / low) ** float(torch.rand((), generator=generator)))
            count = min(count, len(region.map) // 2)
            snr_db = h["csi_snr_db"][0] + (h["csi_snr_db"][1] - h["csi_snr_db"][0]) * float(
                torch.rand((), generator=generator)
            )
            true = region.map.over_noise(snr_db)
            heard = true.worth_mapping()
            some = heard[torch.randperm(len(heard), generator=generator)[: h["stations"]]]
            order = torch.randperm(len(true), generator=generator)
            known, asked = order[:count], order[count : count + h["queries"]]
            measured = region.map.measured(snr_db, generator).of_stations(some)[known]
            wanted = true.of_stations(some)[asked]
            heights: HeightMap | None = region.heights if h["heights"] else None
            parts.append(MapInputs.of(start_of(measured, region.stations[some], heights), wanted.place))
            power.append(wanted.power_db.flatten())
            profile.append(wanted.profile.flatten(0, 1))
        said, spread, log_profile = self.model(*MapInputs.joined(parts))
        loss = map_loss(said, spread, log_profile, torch.cat(power), torch.cat(profile)).mean()
        self.log("train_loss", loss.detach(), prog_bar=True, batch_size=len(batch))
        return loss

    def validation_step(self, batch: list[Any], batch_idx: int) -> None:
        """Errors of whole regions."""
        snr_db = sum(self.hparams["csi_snr_db"]) / 2
        for region in batch:
            generator = torch.Generator().manual_seed(noise_seed(self.hparams["seed"], batch_idx, 1))
            true, measured = region.map.over_noise(snr_db), region.map.measured(snr_db, generator)
            heard = true.worth_mapping()
            order = torch.randperm(len(true), generator=generator)
            for count in (count for count in JUDGED if count < len(true)):
                wanted = true.of_stations(heard)[order[count:]]
                fitted = self.model.fit(
                    measured.of_stations(heard)[order[:count]],
                    region.stations[heard],
                    region.heights if self.hparams["heights"] else None,
                )
                found, start = fitted.at(wanted.place), fitted.kriging.at(wanted.place)
                audible = wanted.power_db > FLOOR_DB
                values = {
                    "rmse": _rmse(found.power_db, wanted.power_db),
                    "rmse_kriging": _rmse(start.power_db, wanted.power_db),
                    "similarity": _similarity(found.profile, wanted.profile)[audible].mean(),
                    "similarity_kriging": _similarity(start.profile, wanted.profile)[audible].mean(),
                }
                for name, value in values.items():
                    self.log(f"val_{name}_{count}", value, batch_size=1)
            self.log("val_rmse", values["rmse"], prog_bar=True, batch_size=1)

    def configure_optimizers(self):
        """AdamW, warm-up, cosine."""
        return configured_adamw(self)


def _rmse(found: Tensor, truth: Tensor) -> Tensor:
    return (found - truth).square().mean(0).sqrt().mean()


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(a.flatten(-2), b.flatten(-2), dim=-1)
