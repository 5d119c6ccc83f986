"""``leaderboard.md``: the tables of a benchmark as Markdown, for a repository's documentation."""

from __future__ import annotations

from pathlib import Path

from airlam.evaluation.engine.contenders import GENIES
from airlam.evaluation.engine.timing import BUSY, is_busy
from airlam.evaluation.report import plots
from airlam.evaluation.report.sentences import bar_label
from airlam.evaluation.report.style import is_learned, look, order, short
from airlam.evaluation.report.verdicts import banner, support
from airlam.evaluation.rows import Figure, Results, Row
from airlam.io import write_text

INTRO = """\
# Leaderboard: {title}
{banner}
{headline}

{details}

NMSE [dB] against the true channel; gains are paired differences to {bar} on the same links and noise, with 95 %
intervals (bootstrap over {resampled}); "above": distance to a genie, a bound that knows what no receiver knows, mean of
dB; sum-SE [bit/s/Hz] of RZF at {snr} dB.
Everything is measured on simulated channels. Latency: one prediction on one CPU thread.
Written by `{command}`; {machine}.
"""


SUPPORTED = {  # titles of sections, and the rows that they show
    "All cells of the headline": "mean",
    "Never seen in pretraining": "held_out",
    "Every cell: NMSE [dB]": "cell",
    "Impaired histories: NMSE [dB]": "impairments",
    "CSI period: sum-SE [bit/s/Hz]": "csi_period",
    "CSI period: NMSE [dB]": "csi_period",
}


def write_leaderboard(results: Results, path: str | Path) -> Path:
    """Write the tables of ``results`` to the Markdown file ``path``.

    Example:
        >>> write_leaderboard(Results.load("outputs/x/results.json"), "leaderboard.md")     # doctest: +SKIP
    """
    env = results.environment
    versions = ", ".join(f"{name} {version}" for name, version in env.get("versions", {}).items())
    bar = results.extras.get("bar", "ar")
    text = INTRO.format(
        title=_escape(results.title),
        banner=f"\n**{text}**\n" if (text := _escape(banner(results))) else "",
        bar=bar_label(bar),
        resampled=results.extras.get("resampled", "drops"),
        snr=f"{results.extras.get('transmit_snr_db', results.config.get('headline_snr_db', 20.0)):g}",
        headline=_escape(results.headline),
        details="\n".join(f"- {_escape(sentence)}" for sentence in results.extras.get("details", [])),
        command=env.get("command", "airlam evaluate").replace("`", "'"),
        machine=_escape(
            f"{env.get('processor', '')}, {env.get('cores', '?')} cores; {versions}; {env.get('date', '')[:10]}"
        ),
    )
    extra = results.extras.get("tables", [])
    sections = [
        (_escape(t["title"]), f"{_escape(t.get('text', ''))}\n\n{_table(t['columns'], t['lines'])}") for t in extra
    ]
    sections += [
        ("All cells of the headline", _means(results.select(group="mean"), bar)),
        ("Never seen in pretraining", _held_out(results.select(group="held_out"), bar)),
        ("Every cell: NMSE [dB]", _cells(results.select(group="cell"), bar)),
        (
            f"Sum-SE by speed, and the share of the gap that {bar_label(bar)} leaves to perfect CSI that is closed",
            _by_speed(results.select(group="cell"), bar),
        ),
        ("Impaired histories: NMSE [dB]", _impairments(results.select(group="impairments"))),
        ("CSI period: sum-SE [bit/s/Hz]", _periods(results.select(group="csi_period"), "sum_se")),
        ("CSI period: NMSE [dB]", _periods(results.select(group="csi_period"), "nmse_db")),
    ]
    for title, table in sections:
        if table:
            text += f"\n## {title}\n\n{_rests(results, SUPPORTED.get(title))}{table}"
    return write_text(Path(path), text)


def _rests(results: Results, group: str | None) -> str:
    """On how many drops the rows of a group rest, as a paragraph."""
    found = support(results.select(group=group), results.extras.get("resampled", "drops")) if group else ""
    what = "Each row" if group in ("mean", "held_out") else "Each figure"
    return f"{what} rests on {found}.\n\n" if found else ""


def write_tables(results: Results, path: str | Path) -> Path:
    """Headline and ``extras["tables"]`` of a benchmark that brings its own, as Markdown."""
    sentences = [f"- {_escape(sentence)}" for sentence in results.extras.get("details", [])]
    quick = [f"**{_escape(text)}**", ""] if (text := banner(results)) else []
    found = support(results.rows, results.extras.get("resampled", "drops"))
    rests = [f"Each figure rests on {found}.", ""] if found else []
    title = _escape(results.title)
    text = "\n".join([f"# {title}", "", *quick, _escape(results.headline), "", *sentences, "", *rests])
    for table in results.extras.get("tables", []):
        text += f"\n## {_escape(table['title'])}\n\n{_table(table['columns'], table['lines'])}"
    return write_text(Path(path), text)


def _table(columns: list[str], lines: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *lines]
    return "".join(f"| {' | '.join(map(_escape, cells))} |\n" for cells in lines)


def _escape(text: str) -> str:
    """A text inside Markdown: no HTML, no end of a cell, one line."""
    return " ".join(str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").splitlines())


def _name(method: str) -> str:
    return f"**{look(method).label}**" if is_learned(method) and ":" not in method else look(method).label


def _text(figure: Figure | None, style: str = ".2f") -> str:
    if figure is None:
        return "-"
    text = f"{figure.number:{style}}"
    if style.startswith("+") and figure.interval is not None:
        low, high = figure.ends
        text += f" ({low:{style}} to {high:{style}})"
    return text


def _sums(rows: list[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row.figures if name.startswith("sum_se_k"))
    return [name for name in names if name.removeprefix("sum_se_k").isdigit()]


def _lines(rows: list[Row], sums: list[str]) -> list[list[str]]:
    figures = {row.method: row.figures for row in rows}
    return [
        [
            _name(method),
            _text(figures[method].get("nmse_cells_db")),
            _text(figures[method].get("gain_cells_db"), "+.2f"),
            _text(figures[method].get("nmse_linear_db")),
            _text(figures[method].get("gain_linear_db"), "+.2f"),
            *(_text(figures[method].get(f"above_{genie}_cells_db")) for genie in GENIES),
            *(_text(figures[method].get(name)) for name in sums),
        ]
        for method in order(list(figures))
    ]


def _columns(bar: str) -> list[str]:
    gain = f"gain over {short(bar)}"
    return ["method", "NMSE, mean of dB", gain, "NMSE, linear mean", gain, "above per-bin genie", "above genie"]


def _means(rows: list[Row], bar: str) -> str:
    if not rows:
        return ""
    sums, by_method = _sums(rows), {row.method: row for row in rows}
    lines = _lines(rows, sums)
    for line, method in zip(lines, order(list(by_method)), strict=True):
        size = by_method[method].parameters_total
        p50 = by_method[method].figures.get("latency_p50_ms")
        line += [_text(p50) + (f" ({BUSY})" if is_busy(p50) else ""), f"{size:,}" if size else "-"]
    users = [f"sum-SE, {name.removeprefix('sum_se_k')} users" for name in sums]
    return _table([*_columns(bar), *users, "latency p50 [ms]", "parameters"], lines)


def _held_out(rows: list[Row], bar: str) -> str:
    labels = list(dict.fromkeys(row.settings["held_out"] for row in rows))
    sums = _sums(rows)
    users = [f"sum-SE, {name.removeprefix('sum_se_k')} users" for name in sums]
    columns = [*_columns(bar), *users]
    return "\n".join(
        f"{_escape(label)}\n\n" + _table(columns, _lines([r for r in rows if r.settings["held_out"] == label], sums))
        for label in labels
    )


def _cells(rows: list[Row], bar: str) -> str:
    methods = [m for m in order([row.method for row in rows]) if m != "perfect"]
    focus = [m for m in methods if is_learned(m) and ":" not in m]
    lines = []
    for key in dict.fromkeys((row.data, row.speed_kmh, row.csi_snr_db) for row in rows):
        here = {r.method: r.figures for r in rows if (r.data, r.speed_kmh, r.csi_snr_db) == key}
        lines.append(
            [plots.title(key[0]), f"{key[1]:g}", f"{key[2]:g}"]
            + [_text(here.get(m, {}).get("nmse_db"), ".1f") for m in methods]
            + [_text(here.get(m, {}).get("gain_db"), "+.2f") for m in focus]
        )
    columns = ["data", "km/h", "CSI SNR [dB]", *(look(m).label for m in methods)]
    return _table([*columns, *(f"gain of {look(m).label} over {short(bar)}" for m in focus)], lines) if lines else ""


def _impairments(rows: list[Row]) -> str:
    methods = order([row.method for row in rows])
    lines = []
    for kind in dict.fromkeys(row.settings["impairment"] for row in rows):
        here = {row.method: row.figures for row in rows if row.settings["impairment"] == kind}
        lines.append([kind, *(_text(here.get(m, {}).get("nmse_db"), ".1f") for m in methods)])
    return _table(["impairment", *(look(m).label for m in methods)], lines) if lines else ""


def _by_speed(rows: list[Row], bar: str) -> str:
    """Means over scenarios of the cells that every speed has, for each size of group."""
    figures = {(row.method, row.data, row.speed_kmh): row.figures for row in rows if row.csi_snr_db == _usual(rows)}
    methods, speeds = order(list(dict.fromkeys(key[0] for key in figures))), sorted({key[2] for key in figures})
    if not {bar, "perfect"} <= set(methods):
        return ""
    lines, sums = [], _sums(rows)
    for method in methods:
        line = [_name(method)]
        for name in sums:
            for speed in speeds:
                places = [key[1:] for key in figures if key[0] == method and key[2] == speed]

                def mean(m: str, places: list = places, name: str = name) -> float:
                    return sum(figures[(m, *place)][name].number for place in places) / len(places)

                value, low, high = mean(method), mean(bar), mean("perfect")
                share = f" ({100 * (value - low) / (high - low):.0f} %)" if is_learned(method) else ""
                line.append(f"{value:.2f}{share}")
        lines.append(line)
    columns = [f"{name.removeprefix('sum_se_k')} users, {speed:g} km/h" for name in sums for speed in speeds]
    return _table(["method", *columns], lines)


def _usual(rows: list[Row]) -> float | None:
    """The CSI SNR of most cells: that of the headline."""
    values = [row.csi_snr_db for row in rows]
    return max(values, key=values.count, default=None)


def _periods(rows: list[Row], figure: str) -> str:
    rows = [row for row in rows if figure == "sum_se" or figure in row.figures]
    if not rows:
        return ""
    name = _sums(rows)[0] if figure == "sum_se" else figure
    first = rows[0].figures[name]
    assert first.axis is not None
    figures = {row.method: row.figures[name].value for row in rows}
    lines = [
        [_name(m), *(f"{v:.2f}" for v in value)] for m in order(list(figures)) if isinstance(value := figures[m], list)
    ]
    return _table(["method", *(f"{period:g} ms" for period in first.axis)], lines)
