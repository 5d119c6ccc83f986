"""Precoders of one's own behind every source of CSI: told its errors where they are known, and nothing otherwise."""

from __future__ import annotations

import json

import pytest
import torch

from airlam.errors import RecipeError
from airlam.evaluation import BeamformingBenchmark, LinkLevelBenchmark
from airlam.evaluation.benchmarks.beamforming.cell import plan, run_cell
from airlam.evaluation.benchmarks.beamforming.chains import parse_chain
from airlam.evaluation.results import group_of
from airlam.methods import Method, register, registry

SMALL = dict(
    cells={
        "scenarios": ["umi_nlos"],
        "speeds_kmh": [60.0],
        "channel_overrides": {
            "num_subcarriers": 12,
            "bs_panel": {"rows": 1, "columns": 2, "polarisation": "dual", "pattern": "38.901"},
        },
    },
)
TOLD: list[bool] = []
SPEEDS: list[torch.Tensor] = []


class Fast:
    """The last slot; refuses to be told of other links than those it predicts."""

    name, kind = "fast-links", "learned"

    def predict(self, h_past, num_future, *, port_shape=None, context=None):
        speed = context["velocity"].norm(dim=-1)
        assert len(speed) == len(h_past)
        SPEEDS.append(speed)
        return h_past[:, -1:].expand(-1, num_future, -1, -1, -1)


class Matched:
    """Matched beams; keeps whether it was told the covariance of the errors."""

    name = "matched-told"

    def precode(self, h, power, no, *, error_covariance=None):
        TOLD.append(error_covariance is not None)
        beams = h.mH / torch.linalg.vector_norm(h, dim=-1)[..., None, :]
        return beams * (power / h.shape[-2]) ** 0.5


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch):
    monkeypatch.setattr(registry, "_OWN", {})
    TOLD.clear()
    SPEEDS.clear()


def own(csi: str) -> dict:
    return {"csi": csi, "precoder": Matched}


def test_before_perfect_csi_a_precoder_is_told_nothing():
    register(Method("their-beams", "precoder", factory=Matched))
    for precoder, learned in (("their-beams", []), ("graph", ["graph"]), ("rzf", [])):
        assert not parse_chain(f"perfect + {precoder}", ["perfect", "ar"], learned).robust
        assert parse_chain(f"ar + {precoder}", ["perfect", "ar"], learned).robust == (precoder != "rzf")
    with pytest.raises(RecipeError, match=r"'perfect \+ robust rzf': nobody knows the errors .* 'perfect \+ rzf'"):
        parse_chain("perfect + robust rzf", ["perfect"], [])
    with pytest.raises(RecipeError, match="nobody knows the errors"):
        LinkLevelBenchmark(methods=["ar + tuned", "perfect + robust rzf"], precoder="wmmse")


def test_every_source_of_a_benchmark_takes_a_precoder_of_ones_own():
    methods = ["ar + tuned", "{model} + {precoder}", "perfect + {precoder}", "{model}:no-correction + {precoder}"]
    static = {"methods": ["raw + {precoder}", "perfect + {precoder}"]}
    made = BeamformingBenchmark(precoder=Matched, methods=[*methods, own("perfect"), own("ar")], static=static)
    told = {chain.name: chain.robust for chain in (*made.chains, *made.static_chains)}
    assert told.pop("ar + tuned") is False
    assert told == {
        "airlam-tiny + matched-told": True,
        "perfect + matched-told": False,
        "airlam-tiny:no-correction + matched-told": False,
        "ar + matched-told": True,
        "raw + matched-told": True,
    }
    learned = BeamformingBenchmark(methods=["ar + tuned", "{model} + {precoder}", "perfect + {precoder}"])
    assert "perfect + airlam-precoder" in [chain.name for chain in learned.chains]


def test_a_coded_link_takes_csi_of_ones_own():
    methods = ["ar + tuned", "{model} + rzf", {"csi": Fast, "precoder": "rzf"}]
    made = LinkLevelBenchmark(methods=methods, precoder="rzf")
    assert [chain.name for chain in made.chains] == ["ar + tuned", "airlam-tiny + rzf", "fast-links + rzf"]


def test_a_cell_of_beamforming_runs_with_perfect_csi():
    made = BeamformingBenchmark(
        **SMALL,
        model=Fast,
        precoder="wmmse",
        methods=["hold + rzf", own("hold"), own("perfect"), "{model} + rzf"],
        bar="hold + rzf",
        sizes={"num_links": 4, "num_tune": 8, "num_train": 8, "side_links": 4, "links_per_drop": 2},
        rates={"users": [2], "transmit_snr_db": [20.0]},
        static={"csi_snr_db": []},
    )
    cell = plan(made)[0]
    record = run_cell(cell, made, made._load())
    known = cell.links("tune", cell.num_tune)
    torch.testing.assert_close(SPEEDS[1], known.velocity.norm(dim=-1))  # more links than are judged, and their speeds
    assert TOLD[0] is True and TOLD[-1] is False  # hold's errors are known, those of perfect CSI are not
    assert record.values("perfect + matched-told", "user_rate", group_of(2)).mean() > 0


def test_coded_links_run_with_perfect_csi(tmp_path):
    made = LinkLevelBenchmark(
        **SMALL,
        model=Fast,
        precoder="wmmse",
        methods=["hold + rzf", own("perfect")],
        bar="hold + rzf",
        sizes={"num_links": 4, "num_choose": 4, "num_tune": 8, "links_per_drop": 2},
        link={"users": 2, "transmit_snr_db": [20.0], "mcs": [5], "tone_step": 1},
    )
    made.run(tmp_path)
    record = json.loads(next((tmp_path / "cells").glob("*.json")).read_text())
    assert set(record["methods"]) == {"hold + rzf", "perfect + matched-told"} and set(TOLD) == {False}
