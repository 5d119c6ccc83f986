"""The planner on made-up options: memory is never exceeded, the deadline is kept, ties are settled as said."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from airlam.edge.planner import Option, choose_options, together, uniform_choice
from airlam.errors import RecipeError
from airlam.resources import device


def options(speed: float, memory: float = 1.0) -> list[Option]:
    """A device's options: local ones cost memory and time, split ones bytes."""
    made = []
    for rank in (1, 2, 4, 8):
        made.append(Option("local", 0, rank, memory * (40e6 + 1e6 * rank), speed * (5 + rank), 10 + rank, 1e5, 1e5))
        for layers in (0, 2):
            need = memory * (2e6 + 5e6 * layers + 1e5 * rank)
            made.append(Option("split", layers, rank, need, 20 + layers + rank, 4 + rank, 2e7, 2e7))
    return made


DEVICES = {"weak": device("sensor"), "middle": device("phone"), "strong": device("vehicle")}
OPTIONS = {"weak": options(50.0, 2.0), "middle": options(2.0), "strong": options(0.1)}


def test_split_devices_wait_for_each_other_at_the_server():
    shared = Option("split", 0, 4, 1e6, 3.0, 1.0, 1e6, 1e6, server_seconds=1.0)
    whole = Option("local", 0, 4, 1e6, 2.5, 1.0, 1e5, 1e5)
    assert together({"a": shared, "b": shared, "c": whole})["seconds"] == 2.5 + 2.0


def test_the_shortest_round_is_the_shortest_of_all():
    """Against every combination, with a server that makes split devices wait for each other."""
    rng = np.random.default_rng(0)
    strong = {label: device("edge-server") for label in "abcd"}
    for _ in range(20):
        able = {
            label: [
                Option("local", 0, 1, 1.0, float(rng.uniform(1, 9)), 1.0, 1.0, 1.0),
                *(
                    Option("split", n, 1, 1.0, float(rng.uniform(1, 5)) + wait, 1.0, 1.0, 1.0, wait)
                    for n, wait in enumerate(rng.uniform(0, 2, 2).tolist())
                ),
            ]
            for label in strong
        }
        every = [dict(zip(able, picked, strict=True)) for picked in itertools.product(*able.values())]
        best = min(together(one)["seconds"] for one in every)
        assert together(choose_options(able, strong, goal="delay"))["seconds"] == pytest.approx(best)
        assert together(choose_options(able, strong))["seconds"] <= 1.1 * best + 1e-9


@pytest.mark.parametrize("goal", ["accuracy", "delay", "energy"])
def test_never_above_memory(goal):
    rng = np.random.default_rng(0)
    for _ in range(30):
        scale = {label: float(rng.uniform(0.05, 8)) for label in OPTIONS}
        able = {label: options(float(rng.uniform(0.1, 50)), scale[label]) for label in OPTIONS}
        chosen = choose_options(able, DEVICES, goal=goal)
        assert all(chosen[label].memory <= DEVICES[label].memory_bytes for label in chosen)


def test_weak_devices_are_split_and_strong_ones_take_more_rank():
    chosen = choose_options(OPTIONS, DEVICES)
    assert chosen["weak"].mode == "split" and chosen["strong"].mode == "local" and chosen["strong"].rank == 8
    deadline = 1.1 * min(o.seconds for o in OPTIONS["weak"] if o.memory <= DEVICES["weak"].memory_bytes)
    assert all(option.seconds <= deadline for option in chosen.values())


def test_goals():
    quick, lean = (choose_options(OPTIONS, DEVICES, goal=goal) for goal in ("delay", "energy"))
    for label, every in OPTIONS.items():
        able = [o for o in every if o.memory <= DEVICES[label].memory_bytes]
        assert quick[label].seconds == min(o.seconds for o in able)
        assert lean[label].joules == min(o.joules for o in able)
    assert all(o.rank >= 4 for o in choose_options(OPTIONS, DEVICES, goal="delay", min_rank=4).values())


def test_plan_is_no_slower_than_the_same_for_everyone():
    uniform = uniform_choice(OPTIONS, DEVICES)
    assert uniform is not None and len({(o.mode, o.layers, o.rank) for o in uniform.values()}) == 1
    planned = together(choose_options(OPTIONS, DEVICES, goal="delay"))
    assert planned["seconds"] <= together(uniform)["seconds"]
    assert together(choose_options(OPTIONS, DEVICES))["mean_rank"] >= together(uniform)["mean_rank"]


def test_a_device_that_can_hold_nothing_is_named():
    with pytest.raises(RecipeError, match="weak: sensor has 64.0 MB and its smallest option"):
        choose_options({**OPTIONS, "weak": options(1.0, 100.0)}, DEVICES)
    assert uniform_choice({**OPTIONS, "weak": options(1.0, 100.0)}, DEVICES) is None
    with pytest.raises(RecipeError, match="goal is 'speed'"):
        choose_options(OPTIONS, DEVICES, goal="speed")
