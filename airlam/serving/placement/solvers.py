"""Ways to find a plan: ours, and what it is compared with."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from airlam.errors import RecipeError
from airlam.serving.placement.problem import Node, Plan, Problem

State = tuple[tuple[str, ...], int] | None
STARTS = 8  # of the local search
PAIRS = 1000  # of two nodes' options, all of which are looked at
LARGEST = 200_000  # plans that brute force looks at


def groups_of(problem: Problem) -> list[tuple[str, ...]]:
    """All groups of services, each with sorted names."""
    names = [service.name for service in problem.services]
    subsets = itertools.chain.from_iterable(itertools.combinations(names, size) for size in range(1, len(names) + 1))
    return [tuple(sorted(subset)) for subset in subsets]


def states_of(problem: Problem, node: Node) -> list[State]:
    """What a node may run by itself."""
    out: list[State] = [None]
    for group in groups_of(problem):
        for count in range(1, min(node.cores, problem.most) + 1):
            if problem.fits(Plan({node.name: (group, count)})):
                out.append((group, count))
    return out


def plan_of(states: dict[str, State]) -> Plan:
    return Plan({name: state for name, state in states.items() if state is not None})


def brute_force(problem: Problem, seed: int = 0) -> Plan:
    """The best of all plans.

    Raises:
        RecipeError: there are too many.
    """
    options = [states_of(problem, node) for node in problem.nodes]
    if math.prod(map(len, options)) > LARGEST:
        raise RecipeError(
            f"brute force would look at {math.prod(map(len, options)):.0e} plans, at most at {LARGEST}; use fewer nodes"
        )
    names = [node.name for node in problem.nodes]
    plans = (plan_of(dict(zip(names, states, strict=True))) for states in itertools.product(*options))
    return min(plans, key=problem.judge)


def one_node(problem: Problem, seed: int = 0) -> Plan:
    """Everything on the node where it is fastest."""
    group = tuple(sorted(problem.by_name))
    plans = [
        Plan({node.name: (group, count)})
        for node in problem.nodes
        for count in range(1, min(node.cores, problem.most) + 1)
    ]
    return min(plans, key=problem.judge)


def at_random(problem: Problem, seed: int = 0) -> Plan:
    """A plan that fits and carries the load, found by trying; the emptiest one where there is none."""
    random = np.random.default_rng(seed)
    options = [states_of(problem, node) for node in problem.nodes]
    for _ in range(2000):
        states = {
            node.name: each[random.integers(len(each))] for node, each in zip(problem.nodes, options, strict=True)
        }
        plan = plan_of(states)
        if math.isfinite(problem.latency(plan)):
            return plan
    return Plan({})


def greedy(problem: Problem, seed: int = 0) -> Plan:
    """Services in order of their cost, each alone on the node where it makes the least latency so far."""
    order = sorted(problem.services, key=lambda service: -service.seconds)
    states: dict[str, State] = {}
    for service in order:
        best, least = None, (math.inf, math.inf)
        for node in problem.nodes:
            now = states.get(node.name)
            options: Iterable[State] = (
                [(tuple(sorted((*now[0], service.name))), now[1])]
                if now
                else [((service.name,), count) for count in range(1, min(node.cores, problem.most) + 1)]
            )
            for option in options:
                trial = {**states, node.name: option}
                if not problem.fits(plan_of(trial)):
                    continue
                cost = (_use(problem, plan_of(trial)), option[1])  # type: ignore[index]
                if cost < least:
                    best, least = trial, cost
        if best is None:
            return Plan({})
        states = best
    return plan_of(states)


def _use(problem: Problem, plan: Plan) -> float:
    """The busiest node's use, as far as a partial plan tells."""
    use = []
    for node in problem.nodes:
        if plan.replicas(node.name):
            seconds = sum(
                chain.per_second * problem.by_name[name].seconds
                for chain in problem.chains
                for name in chain.services
                if name in plan.group(node.name)
            )
            use.append(seconds / node.speed / plan.replicas(node.name))
    return max(use, default=0.0)


def local_search(problem: Problem, seed: int = 0, start: Plan | None = None) -> Plan:
    """From several plans, change what one or two nodes run as long as that lowers the latency."""
    options = {node.name: states_of(problem, node) for node in problem.nodes}
    starts = [start] if start is not None else [one_node(problem), greedy(problem)]
    starts += [at_random(problem, seed + k) for k in range(STARTS)]
    found = [_descended(problem, plan, options) for plan in starts if plan is not None]
    return min(found, key=problem.judge)


def _descended(problem: Problem, plan: Plan, options: dict[str, list[State]]) -> Plan:
    states = {name: plan.nodes.get(name) for name in options}
    least, improved = problem.judge(plan), True
    while improved:
        improved = False
        for trial in _neighbours(states, options):
            found = problem.judge(plan_of(trial))
            if found[0] < least[0] * (1 - 1e-9) or (found[0] == least[0] and found[1] < least[1] * (1 - 1e-9)):
                states, least, improved = trial, found, True
                break
    return plan_of(states)


def _neighbours(states: dict[str, State], options: dict[str, list[State]]) -> Iterator[dict[str, State]]:
    """Plans in which one node runs something else, or a group moves or is cut between two nodes, or two of few
    options do anything."""
    for name, each in options.items():
        for state in each:
            if state != states[name]:
                yield {**states, name: state}
    for a, b in itertools.permutations(options, 2):
        if a < b and len(options[a]) * len(options[b]) <= PAIRS:
            for left, right in itertools.product(options[a], options[b]):
                yield {**states, a: left, b: right}
            continue
        if states[b] in options[a] and states[a] in options[b]:
            yield {**states, a: states[b], b: states[a]}
        held = states[a]
        group = held[0] if held else ()
        for size in range(1, len(group)):
            for part in itertools.combinations(group, size):
                rest = tuple(name for name in group if name not in part)
                left = [state for state in options[a] if state and state[0] == part]
                right = [state for state in options[b] if state and state[0] == rest]
                for one, other in itertools.product(left, right):
                    yield {**states, a: one, b: other}


SOLVERS: dict[str, Callable[..., Plan]] = {
    "local search": local_search,
    "greedy": greedy,
    "one node": one_node,
    "random": at_random,
    "brute force": brute_force,
}


def best_plan(problem: Problem, seed: int = 0) -> Plan:
    """The plan of :func:`local_search`.

    Raises:
        RecipeError: nothing fits and carries the load.
    """
    plan = local_search(problem, seed)
    if not math.isfinite(problem.latency(plan)):
        raise RecipeError(
            "no placement carries the load within memory and cores; add nodes, or lower chains.per_second"
        )
    return plan


def replanned(problem: Problem, plan: Plan) -> Plan:
    """The best plan for another load in which core services stay where they are: light ones move, and replicas are
    added or taken away.

    Args:
        problem: with the new load. plan: the one that runs.
    """
    core = {service.name for service in problem.services if service.core}
    options = {}
    for node in problem.nodes:
        kept = {name for name in plan.group(node.name) if name in core}
        options[node.name] = [
            state
            for state in states_of(problem, node)
            if {name for name in (state or ((), 0))[0] if name in core} == kept
        ]
    return _descended(problem, plan, options)
