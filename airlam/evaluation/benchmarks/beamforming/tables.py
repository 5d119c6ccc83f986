"""Tables of the report on beamforming, as plain texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airlam.evaluation.benchmarks.beamforming.config import BeamformingConfig
from airlam.evaluation.benchmarks.beamforming.gap import FULL, gap_closed
from airlam.evaluation.report.style import look, order
from airlam.evaluation.rows import Figure, Results, Row, sum_se_name

Table = dict[str, Any]
Figures = Mapping[str, dict[str, Figure]]  # of each method
PILOT_BASELINE = "lmmse + rzf"


def make_tables(results: Results, config: BeamformingConfig) -> list[Table]:
    """Shares of the gap, users, other arrays, static users, pilots."""
    return [
        *_headline(results, config),
        *_over_users(results.select(group="users"), config),
        *_arrays(results.select(group="array"), config),
        *_static(results.select(group="static"), config),
        *_pilots(results.select(group="pilots"), config),
    ]


def _headline(results: Results, config: BeamformingConfig) -> list[Table]:
    """Means and every headline cell, one table for each number of users."""
    rows = {row.method: row.figures for row in results.select(group="mean")}
    cells = results.select(group="cell", csi_snr_db=config.cells.csi_snr_db)
    places = list(dict.fromkeys((row.data, row.speed_kmh) for row in cells))
    label, out = look(config.baseline).label, []
    for users in config.rates.users:
        first, lines = users == config.rates.users[0], []
        for method in order(list(rows)):
            line = [look(method).label, *with_share(rows, users, method, config.baseline)]
            if first:
                worst = rows[method].get("se_5pct")
                line.append(f"{worst.number:.2f}" if worst is not None else "-")
            for place in places:
                here = {row.method: row.figures for row in cells if (row.data, row.speed_kmh) == place}
                line.append(with_share(here, users, method, config.baseline)[0] if method in here else "-")
            lines.append(line)
        columns = ["method", "mean", f"gain over {label}", *(["5 %-user SE"] if first else [])]
        columns += [f"{data}, {speed:g} km/h" for data, speed in places]
        text = f"In brackets: share of the gap from {label} to {FULL} that is closed. {_rests_on(cells[0])}"
        out.append({"title": f"Sum-SE of {users} users [bit/s/Hz]", "columns": columns, "lines": lines, "text": text})
    return out


def _over_users(rows: list[Row], config: BeamformingConfig) -> list[Table]:
    """Sum-SE over the number of users."""
    if not rows:
        return []
    found, lines = {row.method: row.figures for row in rows}, []
    for method in order(list(found)):
        texts = [with_share(found, users, method, config.baseline) for users in config.sweep.users]
        lines.append([look(method).label, *(f"{value}, {gain}" for value, gain in texts)])
    columns = ["method", *(f"{users} users" for users in config.sweep.users)]
    text = f"{rows[0].data}, {rows[0].speed_kmh:g} km/h. With the gain over {look(config.baseline).label}. "
    text += _rests_on(rows[0])
    return [{"title": "Sum-SE over users [bit/s/Hz]", "columns": columns, "lines": lines, "text": text}]


def _arrays(rows: list[Row], config: BeamformingConfig) -> list[Table]:
    """Other arrays, means over scenarios."""
    if not rows:
        return []
    lines = []
    for kind in dict.fromkeys(row.settings["array"] for row in rows):
        mine = {row.method: row.figures for row in rows if row.settings["array"] == kind}
        for place, method in enumerate(order(list(mine))):
            texts = _for_each_size(mine, method, config, config.baseline)
            lines.append([kind if place == 0 else "", look(method).label, *texts])
    columns = ["array", "method", *(text for users in config.rates.users for text in (f"{users} users", "gain"))]
    text = f"{rows[0].num_links} links from {rows[0].num_drops} drops for each array."
    title = "Other arrays, means over scenarios: sum-SE [bit/s/Hz]"
    return [{"title": title, "columns": columns, "lines": lines, "text": text}]


def _static(rows: list[Row], config: BeamformingConfig) -> list[Table]:
    """Users that stand still, a table for each CSI SNR."""
    out = []
    for snr in dict.fromkeys(row.csi_snr_db for row in rows):
        mine = [row for row in rows if row.csi_snr_db == snr]
        baseline = mine[0].settings["bar"]
        figures = {row.method: row.figures for row in mine}
        lines = [[look(m).label, *_for_each_size(figures, m, config, baseline)] for m in order(list(figures))]
        over = f"gain over {look(baseline).label}"
        columns = ["method", *(text for users in config.rates.users for text in (f"{users} users", over))]
        text = f"One noisy slot, users that do not move. In brackets: share of the gap to {FULL}. "
        text += f"{mine[0].num_links} links from {mine[0].num_drops} drops in all."
        title = f"Static users, CSI SNR {snr:g} dB: sum-SE [bit/s/Hz]"
        out.append({"title": title, "columns": columns, "lines": lines, "text": text})
    return out


def _pilots(rows: list[Row], config: BeamformingConfig) -> list[Table]:
    """Sum-SE over the number of pilots, a table for each SNR and number of users."""
    out = []
    for snr in dict.fromkeys(row.csi_snr_db for row in rows):
        here = [row for row in rows if row.csi_snr_db == snr]
        figures = {(row.method, row.settings["pilots"]): row.figures for row in here}
        counts = list(dict.fromkeys(row.settings["pilots"] for row in here))
        for users in config.rates.users:
            lines = []
            for method in order([row.method for row in here]):
                texts = [_in_percent(figures[method, n], figures[PILOT_BASELINE, n], users) for n in counts]
                lines.append([look(method).label, *texts])
            columns = ["method", *(f"{count} pilots" for count in counts)]
            title = f"From pilots at {snr:g} dB: sum-SE of {users} static users [bit/s/Hz]"
            text = "In brackets: over LMMSE with the training covariance + RZF, paired, with 95 % intervals. "
            text += f"{here[0].num_links} links from {here[0].num_drops} drops for each number of pilots."
            out.append({"title": title, "columns": columns, "lines": lines, "text": text})
    return out


def _in_percent(figures: dict[str, Figure], baseline: dict[str, Figure], users: int) -> str:
    """Sum-SE, and its gain in per cent of the baseline's with the interval."""
    name = sum_se_name(users)
    text, gain = f"{figures[name].number:.2f}", figures.get(sum_se_name(users, "gain"))
    if gain is not None:
        share, low, high = (100 * value / baseline[name].number for value in (gain.number, *gain.ends))
        text += f" ({share:+.0f} %, {low:+.0f} to {high:+.0f})"
    return text


def _for_each_size(rows: Figures, method: str, config: BeamformingConfig, baseline: str) -> list[str]:
    """:func:`with_share` of each number of users."""
    sizes = config.rates.users
    return [text for users in sizes for text in with_share(rows, users, method, baseline)]


def with_share(rows: Figures, users: int, method: str, baseline: str) -> tuple[str, str]:
    """Sum-SE with the share of the gap closed, and the paired gain, as texts."""
    figures, name = rows[method], sum_se_name(users)
    if name not in figures:
        return "-", "-"
    share = gap_closed(rows, users, method, baseline) if method != baseline else None
    text = f"{figures[name].number:.2f}" + (f" ({round(100 * share)} %)" if share is not None else "")
    gain = figures.get(sum_se_name(users, "gain"))
    if gain is None:
        return text, "-"
    return text, f"{gain.number:+.2f} ({gain.ends[0]:+.2f} to {gain.ends[1]:+.2f})"


def _rests_on(row: Row) -> str:
    return f"{row.num_links} links from {row.num_drops} drops in each cell."
