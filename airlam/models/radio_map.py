"""Radio maps on the backbone: one token for the place that is asked for, one for each measured place around it.

The network corrects kriging: with new weights it gives kriging's answer. Nothing in it belongs to a site, so that it
can be asked at one it has never seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PretrainedConfig

from airlam.baselines.radio_maps import Geometry, Kriging, MapEstimate, drift_terms
from airlam.baselines.radio_maps.estimate import check_places
from airlam.baselines.radio_maps.geometry import AROUND, WAY
from airlam.baselines.radio_maps.kriging import CITIES
from airlam.baselines.radio_maps.profiles import part_length
from airlam.csi import HeightMap, SiteMap
from airlam.csi.site_map import DELAYS, FLOOR_DB
from airlam.models.backbone import build_backbone, freeze_unused
from airlam.models.config import DEFAULT_BACKBONE
from airlam.models.fields import check_backbone, check_whole, refuse_unknown_fields
from airlam.models.linear import use_onednn
from airlam.models.on_backbone import OnBackbone

NEIGHBOURS = 16  # measured places that the network sees
SCALE_DB = 20.0
GEOMETRY, TOLD, RELATION = 10 + WAY, 4, 11  # features of a place, of kriging's answer, of a neighbour
_BETWEEN = 8  # looks at the height map between two places
_WALL = 4.0  # m, what stands higher is a wall between them
_AT_ONCE = 2048  # places times stations


class MapInputs(NamedTuple):
    """What the network sees. A query is a place and a station.

    Attributes:
        place, around: ``[query, GEOMETRY]``, ``[query, AROUND * AROUND]``.
        known, known_around: the same of the measured places and their stations ``[known, ...]``.
        known_profile: theirs ``[known, DELAYS, beam]``, delays after the direct path's.
        rows: into those ``[query, neighbour]``. relation: ``[query, neighbour, RELATION]``.
        told: ``[query, TOLD]``. power, spread: of kriging ``[query]`` dB. profile: ``[query, DELAYS, beam]``, delays
            after the direct path's. direct: where that is on the delay axis ``[query]``.
    """

    place: Tensor
    around: Tensor
    known: Tensor
    known_around: Tensor
    known_profile: Tensor
    rows: Tensor
    relation: Tensor
    told: Tensor
    power: Tensor
    spread: Tensor
    profile: Tensor
    direct: Tensor

    @classmethod
    def of(cls, kriging: Kriging, place: Tensor) -> MapInputs:
        """From kriging that was fitted to what was measured, and places ``[place, 3]`` to ask for; queries run over
        places, then stations."""
        known, stations, heights, there = kriging.known, kriging.stations, kriging.heights, kriging.geometry
        here = Geometry.of(stations, place, heights)
        start = kriging.at(place, here)
        count, measured = len(stations), known.power_db
        gap, index = torch.cdist(place[:, :2], known.place[:, :2]).topk(min(NEIGHBOURS, len(known)), largest=False)
        trend = (drift_terms("heights", there) @ CITIES.mean).float()
        trend_here = (drift_terms("heights", here) @ CITIES.mean).float()
        off = (measured - trend)[index]  # place, neighbour, station
        z = measured[index]
        away = known.place[index][..., :2] - place[:, None, :2]  # place, neighbour, 2
        towards = _towards(stations, place)  # place, station, 2
        along = torch.einsum("pnx,psx->pns", away, towards)
        across = torch.einsum("pnx,psx->pns", away, towards.flip(-1) * torch.tensor([1.0, -1.0])).abs()
        cosine = torch.einsum("pnsx,psx->pns", _towards(stations, known.place)[index], towards)
        wall = _walls(heights, place, known.place[index])
        flat = torch.stack((gap.clamp_min(1).log() - 3, 10 / (gap + 5), (-gap / 10).exp(), (-gap / 30).exp(), wall), -1)
        level = start.power_db[:, None]
        parts = ((z - level) / SCALE_DB, (off - (level - trend_here[:, None])) / SCALE_DB, (z - 20) / SCALE_DB)
        of_pair = torch.stack((*parts, along / 50, across / 50, cosine), -1)
        relation = torch.cat((of_pair, flat[:, :, None].expand(-1, -1, count, -1)), -1).transpose(1, 2)
        length = part_length(known)
        late, late_known = (torch.hypot(g.distance, g.rise) / length for g in (here, there))
        number = torch.full_like(level[:, 0], len(known)).log() - 4
        told = torch.stack(
            ((start.power_db - 20) / SCALE_DB, start.spread_db / 10, (trend_here - start.power_db) / SCALE_DB, number),
            -1,
        )
        rows = index[:, None] * count + torch.arange(count)[:, None]  # of (known place, station)
        return cls(
            *_features(here, late),
            *_features(there, late_known),
            earlier(known.profile, late_known.long()).flatten(0, 1),
            rows.flatten(0, 1),
            relation.flatten(0, 1),
            told.flatten(0, 1),
            start.power_db.flatten(),
            start.spread_db.flatten(),
            earlier(start.profile, late.long()).flatten(0, 1),
            late.long().flatten(),
        )

    @staticmethod
    def joined(parts: list[MapInputs]) -> MapInputs:
        """Of several sites together."""
        fields, before = [list(column) for column in zip(*parts, strict=True)], 0
        for number, part in enumerate(parts):
            fields[MapInputs._fields.index("rows")][number] = part.rows + before
            before += len(part.known)
        return MapInputs(*(torch.cat(column) for column in fields))

    def some(self, queries) -> MapInputs:
        """Some of the queries."""
        shared = {"known", "known_around", "known_profile"}
        return MapInputs(*(x if n in shared else x[queries] for n, x in zip(self._fields, self, strict=True)))


def start_of(known: SiteMap, stations: Tensor, heights: HeightMap | None) -> Kriging:
    """The classic that the network corrects, fitted to what was measured."""
    return Kriging("heights", CITIES).fit(known, stations, heights)


class AirlamMapConfig(PretrainedConfig):
    """What an :class:`AirlamMap` is made of.

    Args:
        backbone: configuration of the transformer over tokens. beams: columns times rows of a station's panel.

    Example:
        >>> AirlamMapConfig().model_type
        'airlam-map'
    """

    model_type = "airlam-map"

    def __init__(self, backbone: dict[str, Any] | None = None, beams: int = 4, **kwargs: Any):
        refuse_unknown_fields(type(self), ("backbone", "beams"), kwargs)
        self.backbone = check_backbone(dict(DEFAULT_BACKBONE) if backbone is None else backbone)
        self.beams = check_whole("beams", beams, 1, 64)
        super().__init__(**kwargs)


def check_beams(inputs: MapInputs, config: AirlamMapConfig) -> None:
    """Raises ValueError unless the CSI has as many beams as the network knows."""
    if (beams := inputs.profile.shape[-1]) != config.beams:
        raise ValueError(f"the CSI has {beams} beams, but this network knows {config.beams}")


class AirlamMap(OnBackbone):
    """See the module's docstring.

    Example:
        >>> from airlam.csi import SiteCSI
        >>> h, place = 9 * torch.randn(20, 1, 96, 8, dtype=torch.complex64), 50 * torch.rand(20, 3)
        >>> csi = SiteCSI(h, torch.tensor([[0.0, 0.0, 10.0, 0.0]]), 1e6, (2, 4, 1), place)
        >>> model = AirlamMap(AirlamMapConfig()).eval()
        >>> model.fit(SiteMap.of(csi), csi.stations).at(torch.tensor([[10.0, 10.0, 1.5]])).power_db.shape
        torch.Size([1, 1])
    """

    config_class = AirlamMapConfig
    base_model_prefix = "airlam_map"
    main_input_name = "place"

    def __init__(self, config: AirlamMapConfig):
        super().__init__(config)
        self.backbone = build_backbone(config.backbone)
        width, taps = self.backbone.config.hidden_size, DELAYS * config.beams
        self.geometry = _two_layers(GEOMETRY, width)
        self.surroundings = _two_layers(AROUND * AROUND, width)
        self.told = _two_layers(TOLD, width)
        self.relation = _two_layers(RELATION, width)
        self.profile = nn.Linear(taps, width)
        self.kinds = nn.Parameter(torch.zeros(2, width))  # asked for, measured
        self.norm = nn.LayerNorm(width)
        last = nn.Linear(width, 2 + taps)
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), last)
        use_onednn(self)
        self.post_init()
        freeze_unused(self)
        nn.init.normal_(self.kinds, std=0.3)
        nn.init.zeros_(last.weight)  # gives kriging's answer
        nn.init.zeros_(last.bias)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Power, spread ``[query]`` dB and the logarithm of the profile ``[query, DELAYS, beam]``; see
        :class:`MapInputs`."""
        x = MapInputs(*inputs)
        check_beams(x, self.config)
        asked = self.geometry(x.place) + self.surroundings(x.around) + self.told(x.told)
        asked = asked + self.profile(_amplitude(x.profile)) + self.kinds[0]
        known = self.geometry(x.known) + self.surroundings(x.known_around) + self.profile(_amplitude(x.known_profile))
        known = known[x.rows] + self.relation(x.relation) + self.kinds[1]
        tokens = torch.cat((asked[:, None], known), 1)
        hidden = self.backbone(inputs_embeds=tokens.to(self.backbone.dtype)).last_hidden_state[:, 0]
        change = self.head(self.norm(hidden.to(asked.dtype)))
        power = x.power + SCALE_DB * change[:, 0]
        spread = x.spread.clamp(1.0, 40.0) * change[:, 1].clamp(-4, 4).exp()
        logits = (x.profile + 1e-3).log() + change[:, 2:].view_as(x.profile)
        return power, spread, earlier(logits.flatten(1).log_softmax(-1).view_as(x.profile), -x.direct)

    def fit(self, known: SiteMap, stations: Tensor, heights: HeightMap | None = None) -> FittedMap:
        """Remember what was measured at a site."""
        return FittedMap(self, known, stations, heights)


class FittedMap:
    """A network with what was measured at a site.

    Args:
        model: takes the tensors of :class:`MapInputs`, gives what :meth:`AirlamMap.forward` does.
        known, stations, heights: what :meth:`AirlamMap.fit` takes.
    """

    def __init__(
        self,
        model: Callable[..., tuple[Tensor, ...]],
        known: SiteMap,
        stations: Tensor,
        heights: HeightMap | None,
    ):
        self.model, self.kriging = model, start_of(known, stations, heights)

    def at(self, place: Tensor) -> MapEstimate:
        """What the map says of places ``[place, 3]`` m."""
        place, found = check_places(place), []
        with torch.inference_mode():
            for some in place.split(max(1, _AT_ONCE // len(self.kriging.stations))):
                power, spread, profile = self.model(*MapInputs.of(self.kriging, some))
                found.append([y.unflatten(0, (len(some), -1)) for y in (power, spread, profile.exp())])
        return MapEstimate(*(torch.cat(column).clone() for column in zip(*found, strict=True)))


def map_loss(power: Tensor, spread: Tensor, log_profile: Tensor, truth_db: Tensor, truth: Tensor) -> Tensor:
    """Loss ``[query]``: Laplace's negative log-likelihood of the power, a little of the squared error, and the cross
    entropy of the profile ``truth [query, DELAYS, beam]`` where the station is heard."""
    scale, miss = spread / 2**0.5, truth_db - power
    heard = (truth_db > FLOOR_DB).float()
    told = -(truth * log_profile).sum((-2, -1)) * heard
    return miss.abs() / scale + scale.log() + 0.002 * miss.square() + 0.2 * told


def earlier(profile: Tensor, parts: Tensor) -> Tensor:
    """Profiles ``[..., delay, beam]`` earlier by whole ``parts [...]`` of the delay axis, which is a circle.

    Example:
        >>> earlier(torch.tensor([[0.0], [0.0], [1.0], [0.0]]), torch.tensor(2)).mT
        tensor([[1., 0., 0., 0.]])
    """
    delays = profile.shape[-2]
    index = (torch.arange(delays) + parts[..., None]).remainder(delays)
    return profile.gather(-2, index[..., None].expand(profile.shape))


def _two_layers(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))


def _amplitude(profile: Tensor) -> Tensor:
    return 3 * profile.flatten(-2).sqrt()


def _towards(stations: Tensor, place: Tensor) -> Tensor:
    """Unit vectors ``[place, station, 2]`` from places to stations, on the ground."""
    gap = stations[:, :2] - place[:, None, :2]
    return gap / torch.linalg.vector_norm(gap, dim=-1, keepdim=True).clamp_min(1e-3)


def _walls(heights: HeightMap | None, place: Tensor, others: Tensor) -> Tensor:
    """Share of the way between places ``[place, 3]`` and ``others [place, neighbour, 3]`` that is built up."""
    if heights is None:
        return torch.zeros(others.shape[:2])
    share = (torch.arange(_BETWEEN) + 0.5) / _BETWEEN
    way = place[:, None, None, :2] + (others[..., :2] - place[:, None, :2])[:, :, None] * share[:, None]
    ground = heights.at(place[:, :2])[:, None, None]
    return (heights.at(way) - ground > _WALL).float().mean(-1)


def _features(g: Geometry, late: Tensor) -> tuple[Tensor, Tensor]:
    """``[place * station, GEOMETRY]``, ``[place * station, AROUND * AROUND]``.

    Args:
        late: the direct path's delay, in parts of the delay axis.
    """
    columns = (
        (10 * g.distance.log10() - 20) / 10,
        g.line_of_sight.float() - 0.5,
        (g.knife_edge - 15) / 10,
        g.way.amax(-1) / 10,
        2 * (g.way > 0).float().mean(-1) - 1,
        g.pattern / 10 + 1,
        g.bearing.cos() / 2,
        g.bearing.sin() / 2,
        (g.rise - 10) / 10,
        2 * late.frac() - 1,
    )
    place = torch.cat((torch.stack(columns, -1), g.way / 10), -1)
    return place.flatten(0, 1), (g.around / 10).flatten(0, 1).flatten(1)


AutoConfig.register("airlam-map", AirlamMapConfig, exist_ok=True)
AutoModel.register(AirlamMapConfig, AirlamMap, exist_ok=True)
