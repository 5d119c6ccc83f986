"""NMSE: the two definitions, per step, and what is refused."""

from __future__ import annotations

import pytest
import torch

from airlam.metrics import nmse, to_db


def links() -> tuple[torch.Tensor, torch.Tensor]:
    """Two links: one of power 1 estimated with error 0.1, one of power 4 estimated with error 1."""
    h = torch.ones(2, 2, 3, 1, 4, dtype=torch.complex64) * torch.tensor([1.0, 2.0])[:, None, None, None, None]
    error = torch.tensor([0.1, 1.0])[:, None, None, None, None]
    return h + error, h


def test_reductions_by_hand():
    h_hat, h = links()
    assert float(nmse(h_hat, h)) == pytest.approx((0.01 + 0.25) / 2)
    assert float(nmse(h_hat, h, reduction="pooled")) == pytest.approx((0.01 + 1.0) / 5)
    assert nmse(h_hat, h, reduction="none").tolist() == pytest.approx([0.01, 0.25])


def test_per_step_normalises_each_step_by_itself():
    h = torch.ones(1, 2, 3, 1, 4, dtype=torch.complex64)
    h[:, 1] = 10
    h_hat = h.clone()
    h_hat[:, 1] += 1
    assert nmse(h_hat, h, per_step=True).tolist() == pytest.approx([0.0, 0.01])
    assert nmse(h_hat, h, per_step=True, reduction="pooled").tolist() == pytest.approx([0.0, 0.01])
    assert nmse(h_hat, h, per_step=True, reduction="none").shape == (1, 2)


def test_any_leading_axes_and_single_link():
    h = torch.randn(2, 3, 4, 5, 1, 6, dtype=torch.complex64)
    assert float(nmse(2 * h, h)) == pytest.approx(1.0)
    assert float(nmse(2 * h[0, 0], h[0, 0])) == pytest.approx(1.0)


def test_decibels_after_averaging():
    assert to_db(torch.tensor([1.0, 0.1, 0.0])).tolist() == pytest.approx([0.0, -10.0, float("-inf")])


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(reduction="batch"), "reduction must be"),
        (dict(h=torch.zeros(2, 2, 3, 1, 4, dtype=torch.complex64)), "zero everywhere"),
        (dict(h=torch.ones(2, 2, 3, 1, 5, dtype=torch.complex64)), "one shape"),
    ],
)
def test_bad_input(change, message):
    h_hat, h = links()
    h = change.pop("h", h)
    with pytest.raises(ValueError, match=message):
        nmse(h_hat, h, **change)
