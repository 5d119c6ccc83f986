"""What a client process keeps between messages saves time and changes no result."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from airlam.edge.federated import run_rounds
from airlam.edge.federated.client.app import build_client_app
from airlam.edge.federated.client.workshop import Workshop
from airlam.edge.federated.engines.in_process import InProcessGrid
from airlam.edge.federated.learning.sites import Places
from airlam.edge.federated.server.app import serve


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aggregation": "ffa"},
        {"aggregation": "stacking"},
        {"mode": "split"},
        {"mode": "split", "aggregation": "ffa"},
    ],
    ids=str,
)
def test_a_new_process_for_each_message_gives_the_same_bits(federation, changes):
    """As in a deployment. One site trains its whole model beside the split ones, in the same process."""
    sites = copy.deepcopy(federation().config["sites"])
    sites["city"]["mode"] = "local"
    f = federation(sites=sites, rounds=2, local_steps=1, num_train=4, num_val=2, **changes)
    places = Places()
    grid = InProcessGrid(build_client_app(lambda _: Workshop(f, places)), 3)
    with grid.identity():
        apart = serve(f, grid, None)
    together = run_rounds(f, places=places)
    assert all(np.array_equal(apart.arrays[name], together.arrays[name]) for name in apart.arrays)
    assert [r.figures for r in apart.rounds] == [r.figures for r in together.rounds]


def test_a_learner_has_the_weights_that_were_asked_for(federation):
    f = federation()
    workshop = Workshop(f)
    start = {name: value.copy() for name, value in workshop.learner(4).arrays().items()}
    moved = {name: value + 1 for name, value in start.items()}
    assert all(np.array_equal(value, moved[name]) for name, value in workshop.learner(4, moved).arrays().items())
    assert all(np.array_equal(value, start[name]) for name, value in workshop.learner(4).arrays().items())


def test_places_are_drawn_once_and_belong_to_their_owner(federation):
    f, places = federation(), Places()
    assert places.site(f, 0).train is places.site(f, 0).train
    other = Places().site(f, 0).train
    assert other is not places.site(f, 0).train and np.array_equal(other.h, places.site(f, 0).train.h)
