"""From the records of a federated benchmark to rows, tables, sentences."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from airlam.edge.federated.benchmark.sentences import CENTRAL, FOCUS, ZERO, sentences
from airlam.edge.federated.recipe.federation import Federation
from airlam.edge.federated.server.record import RoundRecord
from airlam.evaluation.rows import Figure, Results, Row
from airlam.io import recipe_hash
from airlam.metrics.intervals import bootstrap, group_sums

TITLES = {
    "methods": "Federated, centralised, alone",
    "aggregation": "How adapters are aggregated",
    "wire": "Adapters in 8 bits on the wire",
    "ranks": "Devices of different ranks",
    "strategies": "Strategies",
    "clients": "More clients, 5 % of the data each",
    "robustness": "Lost devices, poisoned devices",
    "selection": "Who takes part in a round",
    "privacy": "Noise on what leaves a device",
    "distillation": "A student for weak devices",
    "many": "Many clients",
}
TEXTS = {
    "methods": "Mean over the sites' held-out users of NMSE in dB. Recovered: share of the gain that centralised "
    "training of the same adapters has over the model before training. MB: up and down, all devices, all rounds, "
    "measured.",
    "aggregation": "Missed: distance of the new adapters' products from the average of the devices' products, relative "
    "to the change of the round (Frobenius norm, all layers), in the first and the last round.",
    "wire": "MB: measured, both ways, with scales and headers.",
    "ranks": "Devices train adapters of ranks 2, 4, 8 and 16 (two sites each).",
    "clients": "Each client trains on 77 users, 5 % of the run's 1,536; all are tested on the held-out users of all "
    "eight sites. Beyond eight, clients are further places of the same kinds.",
    "robustness": "'30 % lost' is to be compared with 'nobody lost' (eight sites), the others with 'ten clients': in "
    "the poisoned runs two of them send five times their honest update, turned around.",
    "selection": "Four of eight devices a round but for 'all'. Seconds: modelled, of all rounds.",
    "privacy": "Epsilon at delta 1e-5 for a device's whole data against other data in its place, after all rounds, by "
    "Renyi-DP accounting; the server sees every update by itself, so each carries the whole noise.",
    "distillation": "The student has two layers of width 64. It learns on links that the server simulates, then all "
    "its weights are trained by the sites together.",
}


def build_results(title: str, config: dict[str, Any], federation: Federation, records: list[dict[str, Any]]) -> Results:
    """Everything the report is made of."""
    results = Results(title, "federated", config=dict(config), recipes={"run": federation.config})
    merged = merge(records)
    zero, best = (reached(merged, "methods", name) for name in (ZERO, CENTRAL))
    for (group, name), runs in merged.items():
        results.rows.append(make_row(federation, group, name, runs, zero, best))
    tables = [table_of(results, group) for group in dict.fromkeys(group for group, _ in merged)]
    if best is not None:
        tables.insert(1, site_table(federation, merged))
    results.extras = {
        "focus": FOCUS,
        "tables": tables,
        "resampled": "users",
        "compared": [
            f"{len(federation.site_specs)} sites, each one spatially consistent snapshot with its own scenario, "
            f"carrier and speeds: {', '.join(site.label for site in federation.site_specs)}. "
            f"{federation.num_train} users of each train, {federation.num_test} others test. "
            f"{federation.history} CSI occasions at {federation.csi_snr_db:g} dB, "
            "reported in quantised form, are seen; the true channel of the next "
            f"{federation.horizon} is predicted.",
            f"{federation.rounds} rounds of {federation.local_steps} local steps of {federation.batch_size} users; "
            "centralised training takes as many steps as all sites together.",
        ],
    }
    results.headline, results.extras["details"] = sentences(results)
    results.notes = [
        "NMSE, bytes and memory are measured; seconds, airtime and energy are modelled from counted operations, device "
        "profiles and a radio model (docs/federated.md).",
        "Intervals: 95 %, bootstrap over held-out users, paired; errors of several training seeds are averaged first.",
        "The NMSE of validation users after each round is computed by the simulation itself: it costs no bytes of "
        "the radio links.",
    ]
    return results


def merge(records: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """(group, name) -> records of its seeds."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for record in records:
        found.setdefault((record["group"], record["name"]), []).append(record)
    return found


def reached(merged: dict, group: str, name: str) -> np.ndarray | None:
    """dB of every held-out user, mean over seeds; None where it was not run."""
    if (group, name) not in merged:
        return None
    runs = merged[group, name]
    return np.mean([np.concatenate([run["errors"][site] for site in run["errors"]]) for run in runs], 0)


def make_row(
    federation: Federation,
    group: str,
    name: str,
    runs: list[dict[str, Any]],
    zero: np.ndarray | None,
    best: np.ndarray | None,
) -> Row:
    """One variant: what it reached and what it cost."""
    errors = np.mean([np.concatenate(list(run["errors"].values())) for run in runs], 0)
    row = Row(
        name,
        "sites",
        recipe_hash(federation.config),
        None,
        federation.csi_snr_db,
        federation.history,
        federation.horizon,
        runs[0]["total"],
        runs[0]["trained"],
        settings={**runs[0]["changes"], **runs[0]["options"]},
        num_links=len(errors),
        num_drops=len(federation.site_specs),
        seeds={f"training {n}": run["seed"] for n, run in enumerate(runs)},
        group=group,
    )
    f = row.figures
    f["nmse_cells_db"] = estimate([errors], lambda e: e, "dB")
    if zero is not None:
        f["gain_db"] = estimate([zero, errors], lambda z, e: z - e, "dB")
        if len(runs) > 1:
            gains = [float(np.mean(zero - np.concatenate(list(run["errors"].values())))) for run in runs]
            seeds = [float(run["seed"]) for run in runs]
            f["gain_by_seed_db"] = Figure(gains, "dB", "measured", axis=seeds, axis_name="training seed")
    if zero is not None and best is not None:
        f["recovered"] = estimate([zero, errors, best], lambda z, e, b: (z - e) / (z - b), "1")
    rounds = [[RoundRecord.from_dict(r) for r in run["rounds"]] for run in runs]
    if rounds[0]:
        _costs(row, rounds)
    elif "curve" in runs[0]:
        curve = np.mean([run["curve"] for run in runs], 0)
        if len(curve) > 1:
            f["curve_rounds"] = _curve(curve, list(range(len(curve))), "round")
    f["peak_memory_mb"] = Figure(max(run["peak_memory_bytes"] for run in runs) / 1e6, "MB", "measured")
    return row


def _costs(row: Row, rounds: list[list[RoundRecord]]) -> None:
    f, first = row.figures, rounds[0]
    f["megabytes"] = Figure(float(np.mean([sum(r.bytes for r in run) for run in rounds])) / 1e6, "MB", "measured")
    f["seconds"] = Figure(float(np.mean([sum(r.delay for r in run) for run in rounds])), "s", "modelled")
    joules = [sum(sum(r.joules.values()) + r.server_joules for r in run) for run in rounds]
    f["joules"] = Figure(float(np.mean(joules)), "J", "modelled")
    validated = [n for n in range(len(first)) if all(run[n].mean_figure is not None for run in rounds)]
    figures = [[run[n].mean_figure for n in validated] for run in rounds]
    curve = np.mean(np.asarray(figures, dtype=float), 0)
    spent = np.cumsum([r.bytes for r in first]) / 1e6
    passed = np.cumsum([r.delay for r in first])
    f["curve_rounds"] = _curve(curve, [first[n].number for n in validated], "round")
    f["curve_megabytes"] = _curve(curve, [float(spent[n]) for n in validated], "MB up and down, all devices")
    f["curve_seconds"] = _curve(curve, [float(passed[n]) for n in validated], "modelled seconds")
    lost = np.mean([sum(len(r.lost) for r in run) for run in rounds])
    rejected = np.mean([sum(len(r.rejected) for r in run) for run in rounds])
    f["lost"], f["rejected"] = Figure(float(lost), "1", "measured"), Figure(float(rejected), "1", "measured")
    for key in ("aggregation_error", "naive_error"):
        values = [getattr(r, key) for r in first if getattr(r, key) is not None]
        if values:
            f[key] = Figure(values[0], "1", "measured")
            f[f"{key}_last"] = Figure(values[-1], "1", "measured")
    if first[-1].epsilon is not None:
        f["epsilon"] = Figure(first[-1].epsilon, "1", "modelled")


def _curve(values: np.ndarray, axis: Sequence[float], name: str) -> Figure:
    kind: Any = "modelled" if "modelled" in name else "measured"
    return Figure([float(v) for v in values], "dB", kind, axis=[float(a) for a in axis], axis_name=name)


def estimate(columns: list[np.ndarray], of_means: Any, unit: str) -> Figure:
    """A figure from means over users, resampled together."""
    unknown = Figure(0.0, unit, "measured", note="no gain to compare with")
    if not all(np.isfinite(column).all() for column in columns):
        return unknown
    users = group_sums([torch.tensor(column, dtype=torch.float64) for column in columns], None)
    found, low, high = map(float, bootstrap([users], lambda means: of_means(*means[0])))
    if not np.isfinite(found):
        return unknown
    return Figure(found, unit, "measured", (min(low, high), max(low, high)), groups=len(columns[0]))


def table_of(results: Results, group: str) -> dict[str, Any]:
    """One study."""
    rows = results.select(group=group)
    columns: list[tuple[str, Callable[[Row], str]]] = [
        ("NMSE [dB]", lambda r: _text(r, "nmse_cells_db", ".2f")),
        ("gain over zero-shot [dB]", lambda r: _text(r, "gain_db", "+.2f")),
        ("recovered [%]", lambda r: _text(r, "recovered", ".0f", 100)),
        ("trained weights", lambda r: f"{r.parameters_trainable:,}" if r.parameters_trainable else ""),
        ("MB", lambda r: _text(r, "megabytes", ".1f")),
        ("seconds (modelled)", lambda r: _text(r, "seconds", ".0f")),
        ("joules, server included (modelled)", lambda r: _text(r, "joules", ".0f")),
    ]
    extra = {
        "missed first [%]": ("aggregation_error", ".2g", 100, ("aggregation", "ranks")),
        "missed last [%]": ("aggregation_error_last", ".2g", 100, ("aggregation", "ranks")),
        "averaging the factors would miss [%]": ("naive_error", ".2g", 100, ("aggregation", "ranks")),
        "lost": ("lost", ".0f", 1, ("robustness",)),
        "rejected": ("rejected", ".0f", 1, ("robustness",)),
        "epsilon": ("epsilon", ".3g", 1, ("privacy",)),
        "process's peak memory so far [MB]": ("peak_memory_mb", ".0f", 1, ("many",)),
    }
    for title, (name, style, scale, groups) in extra.items():
        if group in groups:
            columns.append((title, functools.partial(_text, name=name, style=style, scale=scale)))
    shown = [(title, make) for title, make in columns if any(make(row) for row in rows)]
    return {
        "title": TITLES.get(group, group),
        "columns": ["variant", *(title for title, _ in shown)],
        "lines": [[row.method, *(make(row) for _, make in shown)] for row in rows],
        "text": TEXTS.get(group, ""),
    }


def site_table(federation: Federation, merged: dict) -> dict[str, Any]:
    """Site by site, the study of methods."""
    names = [name for group, name in merged if group == "methods"]
    lines = []
    for site in federation.site_specs:
        means = [np.mean([np.mean(run["errors"][site.label]) for run in merged["methods", name]]) for name in names]
        lines.append([site.label, *(f"{mean:.2f}" for mean in means)])
    return {"title": "Site by site: NMSE [dB]", "columns": ["site", *names], "lines": lines}


def _text(row: Row, name: str, style: str, scale: float = 1.0) -> str:
    figure = row.figures.get(name)
    if figure is None or figure.note:
        return ""
    value = f"{scale * figure.number:{style}}"
    if figure.interval is None:
        return value
    low, high = figure.ends
    return f"{value} ({scale * low:{style}} to {scale * high:{style}})"
