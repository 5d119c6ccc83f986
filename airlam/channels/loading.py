"""From a recipe to a channel model."""

from __future__ import annotations

from pathlib import Path

from airlam.channels.channel_model import ChannelModel
from airlam.channels.recipe import MIXTURE, check_scenario, model_class, read_recipe, resolve


def load_channel(recipe: str | Path | dict) -> ChannelModel:
    """A channel model from a recipe.

    Args:
        recipe: the name of a YAML in ``channels/`` ("uma_nlos"), a path to one, or its contents as a dict. Names are
            looked for in the current folder and its ``channels/`` first, then among the shipped recipes.

    Raises:
        RecipeError: an unknown name, key or value; the message names the bound or the nearest valid name.

    Example:
        >>> load_channel("uma_nlos").port_shape
        (2, 4, 4)
        >>> load_channel({"scenario": "cdl_c", "delay_spread": 300e-9, "num_subcarriers": 12}).num_subcarriers
        12
    """
    data = read_recipe(recipe)
    if "scenario" not in data:
        resolve(data)  # raises and says so
    scenario = check_scenario(data["scenario"])
    if scenario == MIXTURE:
        from airlam.channels.mixture import MixtureChannel, resolve_mixture

        return MixtureChannel(resolve_mixture(data), build=load_channel)
    return model_class(scenario)(resolve(data))
