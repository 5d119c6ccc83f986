"""Plans: the model of latency in closed form, and the search against everything there is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from airlam.errors import RecipeError
from airlam.serving.config import ServingConfig
from airlam.serving.placement import SOLVERS, Chain, Link, Node, Plan, Problem, Service, best_plan, replanned
from airlam.serving.placement.command import serving_fields, start_lines
from airlam.serving.placement.solvers import brute_force, greedy, local_search, one_node

STAGES = ("tokenizer", "backbone", "heads")
WHOLE = tuple(sorted(STAGES))


def services(*seconds: float, memory: float = 10.0) -> list[Service]:
    return [
        Service(name, value, memory, 1e5, core=name == "backbone") for name, value in zip(STAGES, seconds, strict=True)
    ]


def random_problem(seed: int) -> Problem:
    random = np.random.default_rng(seed)
    nodes = [
        Node(f"n{k}", int(random.integers(1, 3)), float(random.uniform(15, 80)), float(random.choice([0.5, 1, 2])))
        for k in range(3)
    ]
    places = ["", *(node.name for node in nodes)]
    links = {
        (a, b): Link(float(random.uniform(0, 0.01)), float(random.uniform(1e6, 1e8)))
        for i, a in enumerate(places)
        for b in places[i + 1 :]
    }
    made = services(*random.uniform(0.001, 0.02, 3), memory=float(random.uniform(5, 20)))
    rate = float(random.uniform(5, 80))
    return Problem(made, nodes, [Chain(STAGES, rate, 2e5)], links, hop_s=0.003, most=2)


def test_latency_in_closed_form():
    """One replica is a queue with equal services; two nodes add a link there, one between, one back."""
    rate, cost = 20.0, (0.004, 0.01, 0.002)
    links = {("", "a"): Link(0.001, 1e8), ("", "b"): Link(0.002, 1e8), ("a", "b"): Link(0.003, 1e7)}
    problem = Problem(
        services(*cost), [Node("a", 2, 100), Node("b", 2, 100, 2.0)], [Chain(STAGES, rate, 2e5)], links, hop_s=0.005
    )
    use = rate * sum(cost)
    alone = sum(cost) * (1 + use / (2 * (1 - use))) + 0.001 + 2e5 / 1e8 + 0.001 + 1e5 / 1e8
    assert problem.latency(Plan({"a": (WHOLE, 1)})) == pytest.approx(alone)
    split = Plan({"a": (("tokenizer",), 1), "b": (("backbone", "heads"), 1)})
    expected = 0.001 + 2e5 / 1e8 + 0.003 + 1e5 / 1e7 + 0.005 + 0.002 + 1e5 / 1e8
    for work in (cost[0], (cost[1] + cost[2]) / 2):
        expected += work * (1 + rate * work / (2 * (1 - rate * work)))
    assert problem.latency(split) == pytest.approx(expected)


def test_load_is_split_by_speed_and_replicas():
    nodes = [Node("a", 2, 100), Node("b", 2, 100, 3.0)]
    problem = Problem([Service("s", 0.01, 1)], nodes, [Chain(("s",), 100)])
    plan = Plan({"a": (("s",), 2), "b": (("s",), 2)})
    use = 100 * 0.01 / (2 + 6)  # of every replica alike
    mean = (2 * 0.01 + 6 * 0.01 / 3) / 8 * (1 + use / (2 * (1 - use)))
    assert problem.latency(plan) == pytest.approx(mean)


def test_what_does_not_fit_or_carry():
    problem = Problem(services(0.01, 0.01, 0.01), [Node("a", 1, 35), Node("b", 1, 35)], [Chain(STAGES, 20)])
    assert math.isfinite(problem.latency(Plan({"a": (WHOLE, 1)})))
    for plan in (
        Plan({"a": (WHOLE, 2)}),  # cores
        Plan({}),
        Plan({"a": (("backbone", "tokenizer"), 1)}),  # no heads
        Plan({"a": (WHOLE, 1), "b": (("heads",), 1)}),  # groups overlap
    ):
        assert problem.latency(plan) == math.inf
    tight = Problem(problem.services, [Node("a", 1, 25)], problem.chains)
    assert tight.latency(Plan({"a": (WHOLE, 1)})) == math.inf
    busy = Problem(problem.services, [Node("a", 1, 100)], [Chain(STAGES, 31)])
    with pytest.raises(RecipeError, match="no placement carries the load"):
        best_plan(busy)
    with pytest.raises(RecipeError, match="a chain passes 'wings'"):
        Problem(problem.services, problem.nodes, [Chain(("wings",), 1)])


def test_the_search_finds_what_brute_force_finds():
    hits, carried = 0, 0
    for seed in range(40):
        problem = random_problem(seed)
        best = problem.latency(brute_force(problem))
        found = problem.latency(local_search(problem, seed))
        others = [problem.latency(SOLVERS[name](problem, seed)) for name in ("greedy", "one node", "random")]
        assert found >= best * (1 - 1e-9) and found <= min(others) * (1 + 1e-9)
        if math.isfinite(best):
            carried += 1
            hits += found <= best * (1 + 1e-9)
    assert carried >= 20 and hits >= 0.95 * carried, (hits, carried)


def test_every_plan_in_order_is_one_that_serve_runs():
    """Without the order some of the best plans put tokenizer and heads on one node, the backbone on another."""
    free, ordered = 0, 0
    for seed in range(40):
        problem = random_problem(seed)
        in_order = replace(problem, order=STAGES)
        best = problem.latency(brute_force(problem))
        if not math.isfinite(problem.latency(plan := local_search(in_order, seed))):
            assert not math.isfinite(in_order.latency(brute_force(in_order)))
            continue
        ServingConfig(**serving_fields(plan))
        ordered += 1
        free += best < in_order.latency(brute_force(in_order)) * (1 - 1e-9)
        assert in_order.latency(plan) <= 1.02 * in_order.latency(brute_force(in_order))
    assert ordered >= 20 and free >= 1


def test_two_small_nodes_where_one_is_not_enough():
    problem = Problem(
        services(0.004, 0.012, 0.003, memory=20), [Node("a", 1, 45), Node("b", 1, 45)], [Chain(STAGES, 30)], hop_s=0.002
    )
    assert problem.latency(one_node(problem)) == math.inf
    assert math.isfinite(problem.latency(local_search(problem)))
    assert problem.latency(local_search(problem)) <= problem.latency(greedy(problem))


def test_services_without_stages_are_reached_through_the_place_where_requests_arrive():
    precoding = Service("precoding", 0.02, 1, 3e4, core=False)
    nodes, link = [Node("a", 1, 100), Node("b", 1, 100)], Link(0.001, 1e7)
    chain = Chain(("tokenizer", "precoding"), 10, 2e5, frozenset({"tokenizer"}))
    links = {("", "a"): Link(0.002, 1e8), ("a", "b"): link}
    problem = Problem([*services(0.01, 0.01, 0.01), precoding], nodes, [chain], links, hop_s=0.003)
    plan = Plan({"a": (WHOLE, 1), "b": (("precoding",), 1)})
    use = 10 * 0.02  # of b alone: a hands requests on without work
    sent = 0.002 + 2e5 / 1e8 + (0.001 + 2e5 / 1e7 + 0.003)  # what came in, twice; the way back from b has no delay
    assert problem.latency(plan) == pytest.approx(0.02 + use / (2 * (1 - use)) * 0.02 + sent)
    fields = serving_fields(plan)
    assert fields["groups"] == [list(STAGES), ["precoding"]] and fields["stage_replicas"] == {"1": 1}
    assert ServingConfig(**fields).groups == (STAGES, ("precoding",))
    with pytest.raises(RecipeError, match="consecutive stages"):
        serving_fields(Plan({"a": (("precoding",), 1)}))


def test_light_services_move_and_core_ones_stay():
    nodes = [Node("a", 4, 400), Node("b", 4, 400)]
    quiet = Problem(services(0.004, 0.012, 0.003), nodes, [Chain(STAGES, 20)], hop_s=0.001)
    plan = Plan({"a": (WHOLE, 1)})
    busy = Problem(services(0.004, 0.012, 0.003), nodes, [Chain(STAGES, 200)], hop_s=0.001)
    assert busy.latency(plan) == math.inf
    after = replanned(busy, plan)
    assert math.isfinite(busy.latency(after))
    assert [name for name in ("a", "b") if "backbone" in after.group(name)] == ["a"]
    assert quiet.latency(replanned(quiet, plan)) <= quiet.latency(plan)


def test_a_plan_becomes_fields_of_the_server():
    plan = Plan(
        {"mast": (("tokenizer",), 1), "centre": (("backbone", "heads"), 2), "other": (("backbone", "heads"), 1)}
    )
    fields = serving_fields(plan)
    assert fields == {
        "groups": [["tokenizer"], ["backbone", "heads"]],
        "node": {"0": "airlam-group-0", "1": "airlam-group-1"},
        "replicas": 1,
        "num_cpus": 1.0,
        "stage_replicas": {"1": 3},
    }
    lines = start_lines(plan, fields)
    assert len(lines) == 3 and "airlam-group-1" in lines[0] and lines[0].startswith("centre: ray start")
    with pytest.raises(RecipeError, match="Serve runs consecutive stages"):
        serving_fields(Plan({"a": (("heads", "tokenizer"), 1), "b": (("backbone",), 1)}))
