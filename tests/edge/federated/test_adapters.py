"""Aggregation of adapters, against the average of their products computed densely."""

from __future__ import annotations

import numpy as np
import pytest

from airlam.edge.federated.adapters import average, fitted, fresh_a, norm_of_change, product_error
from airlam.edge.federated.aggregation import SCHEMES
from airlam.edge.federated.aggregation.svd import refactorise

SHAPES = {"one": (12, 20), "two.three": (16, 8)}
RANKS, WEIGHTS = (2, 4, 8), [10.0, 20.0, 30.0]


def updates(seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    made = []
    for rank in RANKS:
        arrays = {}
        for name, (out, fan_in) in SHAPES.items():
            arrays[f"A/{name}"] = rng.standard_normal((rank, fan_in)).astype(np.float32)
            arrays[f"B/{name}"] = rng.standard_normal((out, rank)).astype(np.float32)
        made.append(arrays)
    return made


def dense_average(every: list[dict[str, np.ndarray]], layer: str) -> np.ndarray:
    products = [u[f"B/{layer}"].astype(float) @ u[f"A/{layer}"].astype(float) for u in every]
    return sum(w * p for w, p in zip(WEIGHTS, products, strict=True)) / sum(WEIGHTS)


def combine(aggregation: str, *arguments):
    return SCHEMES.find(aggregation)().combine(*arguments)


def before(aggregation: str) -> dict[str, np.ndarray]:
    return {f"W/{n}": np.zeros(s, np.float32) for n, s in SHAPES.items()} if aggregation != "svd" else {}


@pytest.mark.parametrize("aggregation", ["stacking", "residual"])
def test_exact_aggregations_are_exact(aggregation):
    every = updates()
    found = combine(aggregation, every, WEIGHTS, before(aggregation), 8)
    for layer in SHAPES:
        got = found[f"W/{layer}"].astype(float)
        if aggregation == "residual":
            got = got + found[f"B/{layer}"].astype(float) @ found[f"A/{layer}"].astype(float)
        # single precision of the result
        assert np.abs(got - dense_average(every, layer)).max() < 1e-6 * 20
    assert product_error(every, WEIGHTS, found, before(aggregation)) < 1e-6


def test_dense_parts_are_carried_on():
    every, base = updates(), {f"W/{n}": np.ones(s, np.float32) for n, s in SHAPES.items()}
    found = combine("stacking", every, WEIGHTS, base, 8)
    assert np.allclose(found["W/one"] - 1, dense_average(every, "one"), atol=1e-5)


def test_svd_is_the_best_of_its_rank():
    every = updates()
    for rank in (2, 4, 8):
        found = combine("svd", every, WEIGHTS, {}, rank)
        for layer in SHAPES:
            target = dense_average(every, layer)
            got = found[f"B/{layer}"].astype(float) @ found[f"A/{layer}"].astype(float)
            values = np.linalg.svd(target, compute_uv=False)
            # Eckart and Young: the error is that of the singular values left out
            assert np.linalg.norm(got - target) == pytest.approx(np.sqrt((values[rank:] ** 2).sum()), abs=1e-4)


def test_refactorised_product_of_full_rank_is_the_product():
    rng = np.random.default_rng(1)
    b, a = rng.standard_normal((6, 9)), rng.standard_normal((9, 7))
    new_b, new_a = refactorise(b, a, 9)
    assert new_b.shape == (6, 9) and new_a.shape == (9, 7)
    assert np.allclose(new_b @ new_a, b @ a)
    assert np.allclose(np.linalg.norm(new_b), np.linalg.norm(new_a))


def test_naive_averaging_is_wrong_and_its_error_is_measured():
    every = updates()
    found = combine("naive", every, WEIGHTS, {}, 8)
    off = [found[f"B/{n}"].astype(float) @ found[f"A/{n}"] - dense_average(every, n) for n in SHAPES]
    wrong = sum(np.square(o).sum() for o in off)
    right = sum(np.square(dense_average(every, n)).sum() for n in SHAPES)
    assert product_error(every, WEIGHTS, found) == pytest.approx(np.sqrt(wrong / right), rel=1e-5)
    assert product_error(every, WEIGHTS, found) > 0.3


def test_what_is_missed_is_a_share_of_the_rounds_change():
    every, start = updates(), updates(1)[2]  # devices began from a product that is not zero
    found = combine("naive", every, WEIGHTS, {}, 8)
    wrong = right = 0.0
    for n in SHAPES:
        target, began = dense_average(every, n), start[f"B/{n}"].astype(float) @ start[f"A/{n}"]
        wrong += np.square(found[f"B/{n}"].astype(float) @ found[f"A/{n}"] - target).sum()
        right += np.square(target - began).sum()
    assert product_error(every, WEIGHTS, found, start) == pytest.approx(np.sqrt(wrong / right), rel=1e-5)


def test_frozen_a_makes_the_average_exact_also_across_ranks():
    shared = fresh_a(SHAPES, 8, 1, 0)
    rng = np.random.default_rng(2)
    every = []
    for rank in RANKS:
        b = {f"B/{n}": rng.standard_normal((s[0], rank)).astype(np.float32) for n, s in SHAPES.items()}
        every.append(fitted({**fitted(shared, rank), **b}, 8) | shared)
    found = average(every, WEIGHTS)
    assert product_error(every, WEIGHTS, found) < 1e-6


def test_fresh_a_does_not_depend_on_the_rank():
    wide, thin = fresh_a(SHAPES, 8, 3, 1), fresh_a(SHAPES, 2, 3, 1)
    assert all(np.array_equal(wide[name][:2], thin[name]) for name in thin)
    # uniform in +-1/sqrt(in), as peft draws
    assert abs(wide["A/one"]).max() <= 20**-0.5 and wide["A/one"].std() == pytest.approx(20**-0.5 / 3**0.5, rel=0.15)


def test_fitted_cuts_and_pads():
    shapes = {"A/x": (4, 3), "B/x": (5, 4), "W/x": (5, 3)}
    arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    thin, wide = fitted(arrays, 2), fitted(arrays, 6)
    assert thin["A/x"].shape == (2, 3) and thin["B/x"].shape == (5, 2) and wide["B/x"].shape == (5, 6)
    assert np.array_equal(wide["B/x"] @ wide["A/x"], arrays["B/x"] @ arrays["A/x"])
    assert thin["W/x"] is arrays["W/x"]


def test_norm():
    assert norm_of_change({"a": np.full(4, 2.0)}, {"a": np.zeros(4)}) == pytest.approx(4.0)
