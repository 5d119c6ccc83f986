"""Rows, tables, headline and notes of the report on positioning."""

from __future__ import annotations

from typing import Any

import numpy as np

from airlam.baselines.positioning import INSIDE_90
from airlam.evaluation.benchmarks.positioning.config import LABELS, NETWORKS, USUAL, PositioningConfig
from airlam.evaluation.report.table import figure_text
from airlam.evaluation.rows import Figure, Results, Row
from airlam.io import recipe_hash

POINTS = {"error_50": 0.5, "error_67": 0.67, "error_90": 0.9}
BLOCK_M = 15.0  # side of the squares whose users are resampled together
_RESAMPLES = 1000
NOTES = (
    "Measured: computed on simulated channels in this run. Errors are horizontal.",
    f"Intervals: 95 %, bootstrap over blocks of {BLOCK_M:g} m of neighbouring users: they hold for other users of this "
    "site, not for other sites.",
    "Settings of all methods, when networks stop, and the size of ellipses are chosen on the same validation "
    "users; they are more than the users of the smallest shares.",
    "Inside: users whose true place lies in the stated 90 % ellipse. LOS: users to whom a station has a line of sight.",
    "Noise has the same level at all stations; a station that is far away is measured worse.",
)


def quantile_figure(
    errors: list[float], place: list[list[float]], level: float, other: list[float] | None = None
) -> Figure:
    """A quantile [m], or its ratio to that of ``other`` errors of the same users, with an interval over blocks."""
    blocks, values = _blocks(place), np.asarray(errors)
    divisor = None if other is None else np.asarray(other)

    def statistic(index: np.ndarray) -> float:
        found = float(np.quantile(values[index], level))
        return found if divisor is None else found / max(float(np.quantile(divisor[index], level)), 1e-9)

    return _figure(statistic, blocks, "m" if other is None else "1")


def share_figure(inside: list[bool], place: list[list[float]]) -> Figure:
    """A share of users, with its interval."""
    values = np.asarray(inside, float)
    return _figure(lambda index: float(values[index].mean()), _blocks(place), "1")


def _blocks(place: list[list[float]]) -> list[np.ndarray]:
    square = np.floor(np.asarray(place)[:, :2] / BLOCK_M).astype(int)
    _, number = np.unique(square, axis=0, return_inverse=True)
    number = number.reshape(-1)
    return [np.flatnonzero(number == n) for n in range(number.max() + 1)]


def _figure(statistic: Any, blocks: list[np.ndarray], unit: str) -> Figure:
    random = np.random.default_rng(0)
    value = statistic(np.concatenate(blocks))
    found = [
        statistic(np.concatenate([blocks[n] for n in random.integers(len(blocks), size=len(blocks))]))
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(found, [0.025, 0.975])
    return Figure(value, unit, "measured", (min(float(low), value), max(float(high), value)), groups=len(blocks))


def make_results(config: PositioningConfig, records: list[dict[str, Any]]) -> Results:
    """Rows, tables, headline and notes."""
    results = Results(config.title, "positioning", config=config.plain())
    results.recipes = {record["label"]: record["recipe"] for record in records}
    for record in records:
        results.rows += [_row(config, record, cell) for cell in record["cells"]]
    tables = []
    for record in records:
        tables.append(_headline_table(config, results, record))
        tables.append(_share_table(config, results, record))
        tables += _shift_table(config, results, record)
    results.extras = {
        "tables": [table for table in tables if table["lines"]],
        "compared": compared(config, records),
        "resampled": "blocks of neighbouring users",
    }
    results.headline = headline(config, results, records)
    results.notes = list(NOTES)
    return results


def _row(config: PositioningConfig, record: dict[str, Any], cell: dict[str, Any]) -> Row:
    of_users = record["users"][cell["group"]]
    place, error = of_users["position"], cell["error"]
    group = "cell" if cell["group"] == "test" else "shift"
    row = Row(
        cell["method"],
        record["label"],
        recipe_hash(record["recipe"]),
        None,
        config.csi_snr_db,
        1,
        0,
        parameters_total=cell["parameters"],
        parameters_trainable=cell["parameters"],
        settings={**cell["settings"], "share": cell["share"], "known positions": cell["labelled"]},
        seeds={"benchmark": config.seed},
        num_links=len(error),
        num_drops=1,
        group=group if cell["share"] == config.headline_share else "share",
        label="" if group == "cell" else cell["group"],
    )
    for name, level in POINTS.items():
        row.figures[name] = quantile_figure(error, place, level)
    row.figures["inside"] = share_figure([d < INSIDE_90 for d in cell["distance"]], place)
    for name, wanted in (("los", True), ("nlos", False)):
        some = [i for i, los in enumerate(of_users["los"]) if los == wanted]
        if len(some) >= 10:
            row.figures[f"error_90_{name}"] = quantile_figure([error[i] for i in some], [place[i] for i in some], 0.9)
    if row.group == "cell":
        points = [0.02 * n for n in range(1, 50)]
        row.figures["cdf"] = Figure(
            [float(np.quantile(error, p)) for p in points], "m", "measured", axis=points, axis_name="share of users"
        )
    return row


def best_of(results: Results, label: str, names: tuple[str, ...]) -> Row:
    """The row of a site's headline with the smallest 90 % error."""
    rows = [row for row in results.select(group="cell") if row.data == label and row.method in names]
    return min(rows, key=lambda row: row.figures["error_90"].number)


def ratio(config: PositioningConfig, record: dict[str, Any], method: str, other: str) -> Figure:
    """90 % error of a method over that of another on the same test users, at the headline's share."""

    def errors(name: str) -> list[float]:
        return next(
            cell["error"]
            for cell in record["cells"]
            if (cell["method"], cell["share"], cell["group"]) == (name, config.headline_share, "test")
        )

    return quantile_figure(errors(method), record["users"]["test"]["position"], 0.9, errors(other))


def headline(config: PositioningConfig, results: Results, records: list[dict[str, Any]]) -> str:
    """90 % errors: maps over the best usual classic, the network over the best classic."""
    sentences = []
    for record in records:
        label = record["label"]
        usual, best = (
            best_of(results, label, USUAL),
            best_of(results, label, tuple(k for k in LABELS if k not in NETWORKS)),
        )
        maps = next(row for row in results.select(group="cell") if (row.data, row.method) == (label, "map"))
        first = ratio(config, record, "map", usual.method)
        text = (
            f"{label}: kriged maps {maps.figures['error_90'].number:.1f} m, {100 * first.number:.0f} % "
            f"({100 * first.ends[0]:.0f} to {100 * first.ends[1]:.0f}) of {LABELS[usual.method]}"
        )
        if any(row.method == "network" for row in results.rows):
            second = ratio(config, record, "network", best.method)
            text += (
                f"; the network has {100 * second.number:.0f} % ({100 * second.ends[0]:.0f} to "
                f"{100 * second.ends[1]:.0f}) of {LABELS[best.method]}"
            )
        sentences.append(text)
    return f"90 % errors with {100 * config.headline_share:g} % of positions known. " + ". ".join(sentences) + "."


def compared(config: PositioningConfig, records: list[dict[str, Any]]) -> list[str]:
    """What is judged."""
    sizes = config.sizes
    lines = [
        f"{sizes.num_train} users may train, of whom a share has known positions; {sizes.num_val} others choose "
        f"settings; {sizes.num_test} judge. CSI of one instant, {config.csi_snr_db:g} dB at the median user's "
        "strongest station."
    ]
    for record in records:
        recipe, los = record["recipe"], record["users"]["test"]["los"]
        lines.append(
            f"{record['label']}: {len(recipe['stations'])} stations, "
            f"{recipe['num_subcarriers'] * recipe['subcarrier_spacing'] / 1e6:g} MHz; {100 * np.mean(los):.0f} % of "
            "the test users have a line of sight to a station."
        )
    return lines


def _headline_table(config: PositioningConfig, results: Results, record: dict[str, Any]) -> dict[str, Any]:
    columns = ["50 % [m]", "67 % [m]", "90 % [m]", "90 %, LOS [m]", "90 %, NLOS [m]", "inside 90 % ellipse [%]"]
    names = (*POINTS, "error_90_los", "error_90_nlos")
    rows = [row for row in results.select(group="cell") if row.data == record["label"]]
    lines = [
        [
            LABELS[row.method],
            *(figure_text(row.figures.get(name)) for name in names),
            figure_text(row.figures["inside"], ".0f", 100.0),
        ]
        for row in rows
    ]
    title = f"{record['label']}: {100 * config.headline_share:g} % of positions known"
    return {"title": title, "columns": ["method", *columns], "lines": lines, "text": ""}


def _share_table(config: PositioningConfig, results: Results, record: dict[str, Any]) -> dict[str, Any]:
    rows = [row for row in results.rows if row.data == record["label"] and row.group in ("cell", "share")]
    lines = []
    for name in dict.fromkeys(row.method for row in rows):
        mine = {row.settings["share"]: row for row in rows if row.method == name}
        lines.append(
            [LABELS[name], *(figure_text(mine[s].figures["error_90"]) if s in mine else "" for s in config.shares)]
        )
    columns = ["method", *(f"{100 * s:g} % ({config.count(s)} users)" for s in config.shares)]
    text = "Networks and regression get nothing from the CSI of users without a position."
    return {"title": f"{record['label']}: 90 % error [m] over shares", "columns": columns, "lines": lines, "text": text}


def _shift_table(config: PositioningConfig, results: Results, record: dict[str, Any]) -> list[dict[str, Any]]:
    rows = [row for row in results.rows if row.data == record["label"] and row.group in ("cell", "shift")]
    shifts = list(dict.fromkeys(row.label for row in rows if row.label))
    if not shifts:
        return []
    lines = []
    for name in dict.fromkeys(row.method for row in rows):
        mine = {row.label: row for row in rows if row.method == name}
        cells = [
            f"{figure_text(mine[s].figures['error_90'])}; {100 * mine[s].figures['inside'].number:.0f} %"
            for s in ("", *shifts)
        ]
        lines.append([LABELS[name], *cells])
    title = f"{record['label']}: 90 % error [m] and users inside the 90 % ellipse, under a shift"
    return [{"title": title, "columns": ["method", "as trained", *shifts], "lines": lines, "text": ""}]
