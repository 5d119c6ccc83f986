"""CDL-A to CDL-E of TR 38.901 clause 7.7.1."""

from __future__ import annotations

import torch

from airlam.channels.channel_model import Chunk
from airlam.channels.delay_line import DelayLine
from airlam.channels.drops import draw_uniform, draw_velocity
from airlam.channels.panels import panel_array
from airlam.channels.ray_evaluation import RayEvaluation, check_ray_delay_spread
from airlam.channels.sionna_stream import import_sionna, sionna_stream


class ClusteredDelayLine(DelayLine):
    """Clusters at the specification's fixed angles; phases, ray coupling and heading are random.

    Users move horizontally at the recipe's speeds. (Sionna's own random velocity also points up and down, which is not
    Clarke's spectrum.) The base station looks along +x, the user's panel back at it. A delay spread ``[min, max]`` is
    drawn per link, uniform in its logarithm. There is no path loss, and every link is a drop of its own.
    """

    keys = {**DelayLine.keys, "ray_delay_spread": 0.0}

    @classmethod
    def check_recipe(cls, recipe):
        out = super().check_recipe(recipe) | {"ray_delay_spread": recipe["ray_delay_spread"]}
        check_ray_delay_spread(out)
        return out

    def make_chunk(self, h, power, generator, sionna_seed, return_rays):
        import_sionna()
        from sionna.phy.channel.tr38901 import CDL

        r, count = self.recipe, self.drops_per_chunk
        velocity = draw_velocity(r["speed_kmh"], (count,), generator)
        delay_spread = draw_uniform(r["delay_spread"], (count,), generator, log=True)
        model = CDL(
            model=r["scenario"][-1].upper(),
            delay_spread=1.0,  # delays come normalised and are scaled per link below
            carrier_frequency=r["carrier_frequency"],
            ut_array=panel_array(r["ut_panel"], r["carrier_frequency"]),
            bs_array=panel_array(r["bs_panel"], r["carrier_frequency"]),
            direction="downlink",
            ut_velocity=velocity,
            precision="single",
            device="cpu",
        )
        evaluation = RayEvaluation.of(model, "_cir_gen", r)
        with sionna_stream(sionna_seed):
            gain, realised, atoms = evaluation.run(
                (count, h.shape[1], 1.0 / self.slot_duration),
                self.grid(h.shape[1]),
                h,
                power,
                delay_scale=delay_spread,
                return_rays=return_rays,
            )
        num_links = len(h)
        zero = torch.zeros(num_links)
        return Chunk(
            gain=gain,
            path_loss_db=zero,
            los=torch.full((num_links,), r["state"] == "los"),
            indoor=torch.zeros(num_links, dtype=torch.bool),
            delay_spread=realised,
            position=torch.zeros(num_links, 3),
            velocity=velocity[:num_links],
        ), atoms
