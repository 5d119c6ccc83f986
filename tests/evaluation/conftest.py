"""Results of a made-up benchmark: right in form, invented in value."""

from __future__ import annotations

import math
import random

import pytest

from airlam.evaluation.rows import Figure, Results, Row, environment

METHODS = {  # offset to the AR's NMSE [dB], share of what the AR leaves to perfect CSI, latency [ms], parameters
    "hold": (9.0, -1.6, 0.004, 0),
    "pad": (4.0, -0.5, 4.0, 0),
    "ar": (0.0, 0.0, 2.1, 0),
    "airlam-tiny": (-0.6, 0.06, 6.5, 1_012_345),
    "airlam-tiny:no-correction": (0.1, -0.01, 2.4, 1_012_345),
    "genie_per_bin": (-3.5, 0.3, None, 0),
    "genie_clusters": (-10.5, 0.85, None, 0),
    "genie_lmmse": (-12.0, 0.9, None, 0),
    "perfect": (None, 1.0, None, 0),
}


def _make_results(gain: float = 0.6, width: float = 0.15) -> Results:
    """A whole benchmark's results in which airlam-tiny gains ``gain`` dB on the AR, plus or minus ``width``."""
    rng = random.Random(0)
    methods = METHODS | {"airlam-tiny": (-gain, gain / 10, 6.5, 1_012_345)}
    results = Results("airlam-tiny against tuned classics", "channel_prediction")
    cells = [(d, v, 20.0) for d in ("uma_nlos", "umi_nlos") for v in (3.0, 30.0, 60.0, 100.0)]
    cells += [("uma_nlos", 30.0, snr) for snr in (0.0, 10.0, 30.0)]
    for data, speed, snr in cells:
        ar = -25 + 14 * math.log(speed / 3) / math.log(33) + (20 - snr) * 0.55
        for method, (offset, share, _, size) in methods.items():
            row = Row(method, data, "0123456789ab", speed, snr, 16, 4, size, 0, num_links=192, num_drops=24)
            row.seeds = {"data": 7}
            if method == "ar":
                row.settings = {"order": 12, "ridge": 1e-4, "num_bins": 512, "shrinkage": 3.0}
            if method == "pad":
                row.settings = {"order": 4, "energy": 0.95, "ridge": 1e-3}
            if offset is not None:
                value = ar + offset + rng.uniform(-0.1, 0.1)
                steps = [value - 2 + s for s in range(4)]
                row.figures["nmse_db"] = Figure(value, "dB", "measured", (value - 0.3, value + 0.3))
                row.figures["nmse_steps_db"] = Figure(
                    steps, "dB", "measured", [(s - 0.3, s + 0.3) for s in steps], [0.5, 1.0, 1.5, 2.0], "horizon [ms]"
                )
                if method != "ar":
                    row.figures["gain_db"] = Figure(-offset, "dB", "measured", (-offset - width, -offset + width))
            se = 36 - 0.14 * speed * (1 - share)
            row.figures["sum_se_k4"] = Figure(se, "bit/s/Hz", "measured", (se - 0.5, se + 0.5))
            row.figures["sum_se_k8"] = Figure(1.5 * se, "bit/s/Hz", "measured", (1.5 * se - 0.7, 1.5 * se + 0.7))
            curve = [se * (0.3 + 0.035 * s) for s in (0, 10, 20, 30)]
            row.figures["sum_se_k4_vs_snr"] = Figure(
                curve, "bit/s/Hz", "measured", None, [0.0, 10.0, 20.0, 30.0], "transmit SNR [dB]"
            )
            row.figures["se_5pct"] = Figure(se / 8, "bit/s/Hz", "measured")
            row.figures["se_single"] = Figure(11 + share * 0.1, "bit/s/Hz", "measured")
            results.rows.append(row)
    for method, (offset, share, latency, size) in methods.items():
        row = Row(method, "all", "", parameters_total=size, group="mean", horizon=4, history=16)
        if offset is not None:
            row.figures["nmse_linear_db"] = Figure(-15 + offset, "dB", "measured", (-15.3 + offset, -14.7 + offset))
            row.figures["nmse_cells_db"] = Figure(-18 + offset, "dB", "measured", (-18.3 + offset, -17.7 + offset))
            if method != "ar":
                row.figures["gain_linear_db"] = Figure(-offset, "dB", "measured", (-offset - width, -offset + width))
                row.figures["gain_cells_db"] = Figure(-offset, "dB", "measured", (-offset - width, -offset + width))
                row.figures["cells"] = Figure(8, "1", "measured")
                row.figures["cells_worse"] = Figure(0 if offset < width else 8, "1", "measured")
        se = 28 + 8 * share
        row.figures["sum_se_k4"] = Figure(se, "bit/s/Hz", "measured", (se - 0.3, se + 0.3))
        row.figures["sum_se_k4_gain"] = Figure(
            8 * share, "bit/s/Hz", "measured", (8 * share - width, 8 * share + width)
        )
        if latency is not None:
            row.figures["latency_p50_ms"] = Figure(latency, "ms", "measured")
            row.figures["latency_p99_ms"] = Figure(latency * 1.4, "ms", "measured")
            age = Row(method, "uma_nlos", "", 60.0, 20.0, 16, 16, group="age")
            axis = [0.5 * i for i in range(21)]
            charged = [36 - (8 - 6 * share) * math.sqrt(0.4 + t) for t in axis]
            age.figures = {n: row.figures[n] for n in ("latency_p50_ms", "latency_p99_ms")} | {
                "latency_charged_sum_se": Figure(charged, "bit/s/Hz", "modelled", None, axis, "latency [ms]"),
                "latency_charged_at_p50": Figure(charged[0], "bit/s/Hz", "modelled"),
                "latency_charged_at_p99": Figure(charged[1], "bit/s/Hz", "modelled"),
            }
            age.settings["break_even"] = f"{latency:.1f}"
            results.rows.append(age)
            for kind in ("none", "phase 0.1 rad", "CFO 50 Hz", "timing 10 ns", "20 % of slots missing"):
                bad = Row(method, "uma_nlos", "", 30.0, 20.0, group="impairments", settings={"impairment": kind})
                value = -19.0 + (offset or 0) + len(kind) / 5
                bad.figures["nmse_db"] = Figure(value, "dB", "measured", (value - 0.4, value + 0.4))
                bad.figures["sum_se_k4"] = Figure(se - len(kind) / 5, "bit/s/Hz", "measured")
                results.rows.append(bad)
            for kind in ("1 tone x 1 antenna", "2 measured slots"):
                odd = Row(method, "uma_nlos", "", 30.0, 20.0, group="odd", settings={"odd": kind})
                odd.figures["nmse_db"] = Figure(-9.0 + (offset or 0), "dB", "measured")
                results.rows.append(odd)
            axis = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
            gross = [36 - (8 - 6 * share) * math.sqrt(p) for p in axis]
            net = [g * (1 - 0.5 / 14 / p) for g, p in zip(gross, axis, strict=True)]
            period = Row(method, "uma_nlos", "", 30.0, 20.0, group="csi_period")
            period.figures["sum_se_k4"] = Figure(gross, "bit/s/Hz", "measured", None, axis, "CSI period [ms]")
            period.figures["net_sum_se_k4"] = Figure(net, "bit/s/Hz", "modelled", None, axis, "CSI period [ms]")
            results.rows.append(period)
        results.rows.append(row)
    image = [[-40 + 35 * math.exp(-((d - 8) ** 2) / 30 - ((b - 12) ** 2) / 20) for b in range(32)] for d in range(48)]
    error = [[x - 15 for x in line] for line in image]
    results.extras = {
        "focus": "airlam-tiny",
        "bar": "ar",
        "compared": ["Two scenarios, four speeds. <b>Text is escaped</b> & safe."],
        "picture": {
            "true_db": image,
            "predicted_db": {"airlam-tiny": image},
            "error_db": {"ar": error, "airlam-tiny": error},
        },
    }
    results.notes = ["Every figure is tagged measured or modelled."]
    results.config = {"num_links": 192}
    results.environment = environment(
        threads=1, command="airlam evaluate --config tasks/channel_prediction/benchmark.yaml"
    )
    return results


@pytest.fixture(scope="session")
def make_results():
    """The function itself: ``make_results(gain, width)``."""
    return _make_results


@pytest.fixture
def results() -> Results:
    return _make_results()
