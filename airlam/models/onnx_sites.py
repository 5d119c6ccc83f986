"""Radio maps and positions by networks that run in ONNX Runtime.

The graph holds the whole forward pass of the network, with real tensors alone. What makes its inputs (kriging, features
of the CSI) and what reads its outputs is the code of :mod:`airlam.models.radio_map` and :mod:`airlam.models.position`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from airlam.baselines.positioning import PositionEstimate, SiteCSI
from airlam.baselines.radio_maps.geometry import AROUND
from airlam.csi import HeightMap, SiteMap
from airlam.csi.site_map import DELAYS
from airlam.errors import CheckpointError
from airlam.models.exported import PARAMETERS, check_threads, read_exported
from airlam.models.onnx_model import OnnxModel, open_session
from airlam.models.position import AirlamPositionConfig, check_stations, located, num_features
from airlam.models.radio_map import (
    GEOMETRY,
    RELATION,
    TOLD,
    AirlamMapConfig,
    FittedMap,
    MapInputs,
    check_beams,
)

Axes = dict[str, tuple[str | int, ...]]  # of each input: the name of an axis that is free, the size of another


class OnnxNetwork(nn.Module):
    """An exported network of a site in ONNX Runtime. It cannot be trained.

    A subclass names its configuration and outputs, and says in :meth:`axes_of` what the graph takes.

    Args:
        folder: what ``airlam export`` wrote.
        threads: of the runtime; the default is torch's number at that moment.

    Attributes:
        config: of the network behind the graph. num_parameters: of that network.

    Raises:
        CheckpointError: no such folder, damaged or foreign files, or ONNX Runtime is not installed.
        ValueError: ``threads`` below 1.
    """

    formats, graph = OnnxModel.formats[:1], OnnxModel.graph
    config_class: type[PretrainedConfig]
    outputs: tuple[str, ...]
    made_by: str  # makes the inputs; for errors

    def __init__(self, folder: str | Path, threads: int | None = None):
        super().__init__()
        folder, threads = Path(folder), check_threads(threads)
        self.config, fields = read_exported(folder, self.formats, self.graph, self.config_class)
        self.num_parameters = fields[PARAMETERS]
        self.axes, path = self.axes_of(self.config), folder / self.graph
        self.session = open_session(path, threads)
        found = {x.name: tuple(x.shape) for x in self.session.get_inputs()}
        if found != self.axes or [x.name for x in self.session.get_outputs()] != list(self.outputs):
            raise CheckpointError(
                f"{path} takes {found}, but config.json describes {self.axes}; they do not belong together; export the "
                "checkpoint again"
            )

    @staticmethod
    def axes_of(config: Any) -> Axes:
        """What the graph of a network with this configuration takes."""
        raise NotImplementedError

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the graph.

        Args:
            inputs: in the order of :meth:`axes_of`; real numbers are taken in single precision.

        Raises:
            ValueError: another number of inputs, or a shape that does not fit.
        """
        self._check(inputs)
        arrays = {
            name: (x.float() if x.is_floating_point() else x.long()).detach().cpu().contiguous().numpy()
            for name, x in zip(self.axes, inputs, strict=True)
        }
        return tuple(torch.from_numpy(x).to(inputs[0].device) for x in self.session.run(list(self.outputs), arrays))

    def _check(self, inputs: tuple[Tensor, ...]) -> None:
        if len(inputs) != len(self.axes):
            raise ValueError(
                f"got {len(inputs)} inputs, but the graph takes {len(self.axes)}; {self.made_by} makes them"
            )
        sizes: dict[str | int, int] = {}
        for (name, axes), x in zip(self.axes.items(), inputs, strict=True):
            before = [f"{sizes[axis]} {axis}" for axis in axes if axis in sizes]
            fits = x.dim() == len(axes) and all(
                0 < size == (axis if isinstance(axis, int) else sizes.setdefault(axis, size))
                for axis, size in zip(axes, x.shape, strict=True)
            )
            if not fits:
                raise ValueError(
                    f"{name} has shape {list(x.shape)}, but must be [{', '.join(map(str, axes))}]"
                    f"{' with ' if before else ''}{' and '.join(before)}, no axis empty; {self.made_by} makes it"
                )


class OnnxMap(OnnxNetwork):
    """Radio maps by an exported :class:`~airlam.models.radio_map.AirlamMap`, in ONNX Runtime; asked as that is.

    Arguments, errors: :class:`OnnxNetwork`.

    Example:
        >>> from airlam.export import export_onnx
        >>> from airlam.models import AirlamMap
        >>> small = {"model_type": "roberta-prelayernorm", "hidden_size": 16, "num_hidden_layers": 1}
        >>> model = AirlamMap(AirlamMapConfig({**small, "num_attention_heads": 2, "vocab_size": 2, "eos_token_id": 1}))
        >>> network = OnnxMap(export_onnx(model, "my-map"))
        >>> known = SiteMap(50 * torch.rand(20, 3), 9 * torch.rand(20, 2, DELAYS, 4), 96, 1e6)
        >>> stations = torch.tensor([[0.0, 0.0, 10.0, 0.0], [50.0, 0.0, 10.0, 90.0]])
        >>> network.fit(known, stations).at(torch.tensor([[10.0, 10.0, 1.5]])).power_db.shape
        torch.Size([1, 2])
    """

    config_class = AirlamMapConfig
    outputs = ("power_db", "spread_db", "log_profile")
    made_by = "airlam.models.radio_map.MapInputs.of"

    @staticmethod
    def axes_of(config: AirlamMapConfig) -> Axes:
        """By the fields of :class:`~airlam.models.radio_map.MapInputs`."""
        profile = (DELAYS, config.beams)
        return {
            "place": ("queries", GEOMETRY),
            "around": ("queries", AROUND * AROUND),
            "known": ("known", GEOMETRY),
            "known_around": ("known", AROUND * AROUND),
            "known_profile": ("known", *profile),
            "rows": ("queries", "neighbours"),
            "relation": ("queries", "neighbours", RELATION),
            "told": ("queries", TOLD),
            "power": ("queries",),
            "spread": ("queries",),
            "profile": ("queries", *profile),
            "direct": ("queries",),
        }

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """As :meth:`airlam.models.radio_map.AirlamMap.forward`."""
        if len(inputs) == len(self.axes) and (x := MapInputs(*inputs)).profile.dim() == 3:
            check_beams(x, self.config)
        return super().forward(*inputs)

    def fit(self, known: SiteMap, stations: Tensor, heights: HeightMap | None = None) -> FittedMap:
        """Remember what was measured at a site.

        Args:
            known: powers and profiles of measured places. stations: ``[station, 4]``, x, y, z [m], bearing [degrees].
            heights: roofs and ground; None: nothing stands anywhere.

        Returns:
            An object whose ``at(place)``, ``place [place, 3]`` m, gives a
            :class:`~airlam.baselines.radio_maps.MapEstimate`.

        Raises:
            ValueError: nothing was measured, or the stations are not those of ``known``; from ``at`` also for another
                number of beams, and places that are not finite ``[place, 3]``.
        """
        return FittedMap(self, known, stations, heights)


class OnnxPosition(OnnxNetwork):
    """Positions by an exported :class:`~airlam.models.position.AirlamPosition`, in ONNX Runtime; asked as that is.

    Arguments, errors: :class:`OnnxNetwork`.

    Example:
        >>> from airlam.export import export_onnx
        >>> from airlam.models import AirlamPosition
        >>> small = {"model_type": "roberta-prelayernorm", "hidden_size": 16, "num_hidden_layers": 1}
        >>> small |= {"num_attention_heads": 2, "vocab_size": 2, "eos_token_id": 1}
        >>> network = OnnxPosition(export_onnx(AirlamPosition(AirlamPositionConfig(small, stations=3)), "my-hall"))
        >>> csi = SiteCSI(torch.randn(2, 3, 96, 8, dtype=torch.complex64), torch.zeros(3, 4), 1e6, (2, 4, 1))
        >>> start = PositionEstimate(torch.zeros(2, 2), torch.eye(2).expand(2, 2, 2))
        >>> network.locate(csi, start).mean.shape
        torch.Size([2, 2])
    """

    config_class = AirlamPositionConfig
    outputs = ("moved", "turned")
    made_by = "airlam.models.position.PositionInputs.of"

    @staticmethod
    def axes_of(config: AirlamPositionConfig) -> Axes:
        """By the fields of :class:`~airlam.models.position.PositionInputs`."""
        return {
            "stations": ("users", config.stations, num_features(config.beams)),
            "mean": ("users", 2),
            "factor": ("users", 2, 2),
        }

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """As :meth:`airlam.models.position.AirlamPosition.forward`."""
        if inputs and inputs[0].dim() == 3:
            check_stations(inputs[0], self.config)
        return super().forward(*inputs)

    def locate(self, csi: SiteCSI, start: PositionEstimate) -> PositionEstimate:
        """Where users are, from their CSI and the start's estimate of them.

        Args:
            csi: of users at the stations of the site. start: of the same users, from a classic method.

        Returns:
            ``mean [user, 2]`` m and ``covariance [user, 2, 2]`` m^2.

        Raises:
            ValueError: other stations or beams than the network was made for, no users, a start of others.
        """
        return located(self, csi, start)
