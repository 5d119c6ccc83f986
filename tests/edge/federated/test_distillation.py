"""A student learns from a teacher."""

from __future__ import annotations

import pytest
import torch

from airlam.edge.federated.benchmark.distillation import distil, make_student, server_batches, taught
from airlam.edge.federated.learning.sites import Places
from airlam.models import load_checkpoint
from airlam.recipes import find_checkpoint
from airlam.tasks.objectives import forecast_target, predicted_error


@pytest.fixture(scope="module")
def teacher():
    return load_checkpoint(find_checkpoint("airlam-tiny"))


def test_a_student_is_small_and_reads_the_same_tokens(teacher):
    student = make_student(teacher, 0)
    size = [sum(p.numel() for p in m.parameters()) for m in (student, teacher)]
    assert size[0] < size[1] / 2
    assert student.num_features == teacher.num_features
    again = make_student(teacher, 0)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), again.parameters(), strict=True))


def test_the_server_makes_places_of_its_own(federation):
    f = federation()
    past, future, _ = next(server_batches(f, 4, 1))
    places = Places()
    mine = [places.site(f, n).train.h[:, : f.history] for n in range(3)]
    assert past.shape[1] == f.history and future.shape[1] == f.horizon
    assert not any(torch.equal(past[0], h[0]) for h in mine)


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_distilling_lowers_what_it_minimises(federation, teacher, weight):
    f = federation(num_train=16)
    student = make_student(teacher, 0)
    site = Places().site(f, 0)
    users = torch.arange(8)
    past, future = site.measured(site.val, users[:4], 3), site.val.h[:4, 16:20]
    target = forecast_target(teacher, past, future, site.val.port_shape)
    if weight:
        target = taught(teacher, target)

    def error() -> float:
        with torch.no_grad():
            return float(predicted_error(student, target).log().mean())

    before = error()
    distil(f, teacher, student, steps=25, weight=weight, learning_rate=3e-3)
    assert error() < before


def test_weights_out_of_bounds_are_refused(federation, teacher):
    with pytest.raises(ValueError, match="between 0 and 1"):
        distil(federation(), teacher, make_student(teacher, 0), steps=1, weight=1.5)
