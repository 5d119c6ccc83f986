"""``report.html`` from :class:`airlam.evaluation.rows.Results`: one file, no link to anything outside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airlam.evaluation import plots
from airlam.evaluation.headline import bar_label, verdict
from airlam.evaluation.leaderboard import write_tables
from airlam.evaluation.methods import BOUNDS, look, order, short
from airlam.evaluation.rows import Figure, Results, Row, environment
from airlam.io import write_text

CAPTIONS = {
    "gain_forest": "NMSE against {bar}, cell by cell, on the same links and the same "
    "noise. Bars: 95 % interval of the paired difference, bootstrapped over {resampled}.",
    "nmse_vs_speed": "NMSE over the whole horizon against user speed. Bands: 95 % intervals.",
    "nmse_vs_horizon": "NMSE of each predicted slot.",
    "nmse_vs_csi_snr": "NMSE against the SNR of the measured history; the target is always the true channel.",
    "sum_se_vs_speed": "Sum spectral efficiency of precoding computed from predicted CSI and judged on the true "
    "channel: RZF, unless the method names another precoder. Users of one group share a base station and a drop.",
    "sum_se_vs_transmit_snr": "Sum spectral efficiency against transmit SNR. Where CSI is wrong, more power no longer "
    "helps: the users disturb each other.",
    "sum_se_vs_csi_snr": "Sum spectral efficiency against the SNR of the measured history.",
    "sum_se_vs_users": "More users share the power, the antennas, and each other's CSI errors.",
    "sum_se_vs_pilots": "Static users send fewer pilots than the base station has antennas, heard through a combiner "
    "of random phases; beams are judged on the true channel.",
    "throughput_vs_snr": "Bits that arrive in whole blocks, with the best entry of the MCS table at each SNR.",
    "bler_vs_snr": "Blocks that are lost, with the entry of the MCS table that tells the methods apart best.",
    "beam_accuracy": "How often the predicted beam is the best one, over what a sweep measures, how well, how often.",
    "beam_se_ratio": "Spectral efficiency with the predicted beam over that with the best; mean over the horizon.",
    "latency_bars": "Time of one prediction (one link, all its antennas and subcarriers). Bar: median; whisker: 99th "
    "percentile.",
    "latency_charged": "A prediction that takes longer serves later slots. The precoder in service at latency L uses "
    "the prediction for the slots that follow L; beyond the horizon the last predicted slot is held.",
    "csi_period": "CSI measured less often: the history is sampled at the period, and spectral efficiency is judged "
    "at the end of the period, when the prediction is oldest.",
    "impairments": "One cell with an impaired history; the target stays the true channel. A precoder is blind to a "
    "phase that all of a user's antennas and subcarriers share, so a carrier offset costs NMSE and hardly any sum-SE; "
    "what differs from slot to slot disturbs the prediction itself. Lost slots are interpolated linearly for the "
    "classical methods; the learned method is told which they are and ignores them.",
    "nmse_vs_rounds": "NMSE of all sites' validation users after each round, against what was spent until then: "
    "rounds, measured bytes, modelled seconds. The dotted line is the model as it was.",
    "nmse_vs_clients": "NMSE of all sites' held-out users against the number of clients, each with its own small share "
    "of the data.",
    "beam_delay_picture": "One held-out channel, last predicted slot, in the beam-delay domain.",
}
SECTIONS = (
    ("Prediction error", ("gain_forest", "nmse_vs_speed", "nmse_vs_horizon", "nmse_vs_csi_snr")),
    ("Spectral efficiency", ("sum_se_vs_speed", "sum_se_vs_transmit_snr", "sum_se_vs_csi_snr", "sum_se_vs_users")),
    ("From pilots", ("sum_se_vs_pilots",)),
    ("Over a coded link", ("throughput_vs_snr", "bler_vs_snr")),
    ("Beams", ("beam_accuracy", "beam_se_ratio")),
    ("Latency and prediction age", ("latency_bars", "latency_charged")),
    ("CSI period and pilot overhead", ("csi_period",)),
    ("Impaired measurements", ("impairments",)),
    ("Over rounds, bytes, seconds", ("nmse_vs_rounds", "nmse_vs_clients")),
    ("One channel", ("beam_delay_picture",)),
)
MODELLED = ("latency_charged", "csi_period")


@dataclass
class Table:
    """A table of the report: texts only, computed here so that the template stays a template."""

    title: str
    columns: list[str]
    lines: list[tuple[str, list[str]]] = field(default_factory=list)  # (css class of the line, cells as HTML)
    text: str = ""
    note: str = ""
    tags: list[str] = field(default_factory=list)


def publish(
    results: Results, out: str | Path, *, threads: int, leaderboard: Callable[[Results, Path], Path] = write_tables
) -> Path:
    """Write all that a benchmark leaves in ``out``: ``results.json``, ``leaderboard.md``, ``plots/``, ``report.html``.

    Args:
        threads: that the run used. leaderboard: writes the tables.

    Returns:
        The path of ``report.html``.
    """
    out = Path(out)
    results.environment = environment(threads=threads)
    results.save(out / "results.json")
    leaderboard(results, out / "leaderboard.md")
    return write_report(results, out)


def write_report(results: Results, out: str | Path) -> Path:
    """Write ``report.html`` and ``plots/`` into the folder ``out``, from the results alone.

    Args:
        results: for example ``Results.load("results.json")``: a report can be made again without a new run.
        out: folder; made if missing.

    Returns:
        The path of ``report.html``.
    """
    import jinja2
    from markupsafe import Markup

    out = Path(out)
    drawings = plots.save_all(results, out / "plots")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("airlam.evaluation", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    focus = results.extras.get("focus", "")
    sections = []
    for title, names in SECTIONS:
        drawn = [
            {
                "uri": Markup(plots.data_uri(drawings[name].svg)),
                "share": round(100 * drawings[name].share),
                "alt": caption(name, results),
                "caption": caption(name, results),
                "tags": ["modelled"] if name in MODELLED else ["measured"],
            }
            for name in names
            if name in drawings
        ]
        tables = []
        if "latency_charged" in names and (table := break_even_table(results)):
            tables.append(table)
        if "sum_se_vs_speed" in names and (table := path_loss_table(results)):
            tables.append(table)
        if drawn or tables:
            sections.append({"title": title, "plots": drawn, "tables": tables})
    html = environment.get_template("report.html.j2").render(
        results=results,
        tone=_tone(results, focus),
        details=results.extras.get("details", []),
        facts=key_facts(results, focus),
        compared=results.extras.get("compared", []),
        tables=[table for table in (mean_table(results, focus), held_out_table(results, focus)) if table]
        + extra_tables(results),
        sections=sections,
        appendix=[table for table in (cell_table(results, focus),) if table],
        notes=results.notes,
        machine=_machine(results),
        configuration=json.dumps({"benchmark": results.config, "recipes": results.recipes}, indent=1, default=str),
        render=lambda table: Markup(_table_html(table)),
    )
    return write_text(out / "report.html", html)


def caption(name: str, results: Results) -> str:
    """The text under a plot."""
    return CAPTIONS[name].format(
        resampled=results.extras.get("resampled", "drops"), bar=bar_label(results.extras.get("bar", "ar"))
    )


def mean_table(results: Results, focus: str) -> Table | None:
    """One line per method: the means over all cells of the headline."""
    rows = {row.method: row for row in results.select(group="mean")}
    if not rows:
        return None
    sums = _sum_names(list(rows.values()))
    figures: list[tuple[str, str, str]] = [
        ("NMSE [dB], linear mean", "nmse_linear_db", ".2f"),
        (f"gain over {_bar(results)} [dB]", "gain_linear_db", "+.2f"),
        ("NMSE [dB], mean of cells", "nmse_cells_db", ".2f"),
        (f"gain over {_bar(results)} [dB]", "gain_cells_db", "+.2f"),
        ("above per-bin genie [dB], mean of cells", "above_genie_per_bin_cells_db", ".2f"),
        ("above genie [dB], mean of cells", "above_genie_lmmse_cells_db", ".2f"),
        *((f"sum-SE, {name.removeprefix('sum_se_k')} users [bit/s/Hz]", name, ".2f") for name in sums),
        ("SE of one user [bit/s/Hz]", "se_single", "user"),
        ("latency [ms]", "latency_p50_ms", "p99"),
    ]
    figures = [f for f in figures if any(f[1] in row.figures for row in rows.values())]
    table = Table(
        "All cells together",
        ["method", "parameters", *(name for name, _, _ in figures)],
        tags=["measured"],
        text=results.extras.get("mean_text", ""),
        note=_small_print(results, list(rows.values())),
    )
    for method in order(list(rows)):
        row = rows[method]
        size = f"{row.parameters_total:,}" if row.parameters_total else "&ndash;"
        size += f"<small>{row.parameters_trainable:,} trained</small>" if row.parameters_trainable else ""
        if "flops" in row.figures:
            size += f"<small>{row.figures['flops'].number / 1e6:.0f} MFLOP</small>"
        cells = [_name(method), size]
        special = {"p99": _p50_p99, "user": _one_user}
        cells += [
            special[style](row) if style in special else _cell(row.figures.get(name), style)
            for _, name, style in figures
        ]
        table.lines.append((_css(method, focus), cells))
    return table


def held_out_table(results: Results, focus: str) -> Table | None:
    """Data of kinds that pretraining never saw: a block of lines for each."""
    rows = results.select(group="held_out")
    if not rows:
        return None
    sums, gain = _sum_names(rows), f"gain over {_bar(results)} [dB]"
    table = Table(
        "Never seen in pretraining",
        ["data", "method", "NMSE [dB], linear mean", gain, "NMSE [dB], mean of cells", gain,
         *(f"sum-SE, {name.removeprefix('sum_se_k')} users [bit/s/Hz]" for name in sums)],
        tags=["measured"],
        text="Means over speeds. Classical methods are tuned on each kind of data; the learned one sees it as it is.",
    )  # fmt: skip
    for label in dict.fromkeys(row.settings["held_out"] for row in rows):
        mine = {row.method: row.figures for row in rows if row.settings["held_out"] == label}
        for place, method in enumerate(order(list(mine))):
            styles = (("nmse_linear_db", ".2f"), ("gain_linear_db", "+.2f"), ("nmse_cells_db", ".2f"),
                      ("gain_cells_db", "+.2f"), *((name, ".2f") for name in sums))  # fmt: skip
            cells = [_escape(label) if place == 0 else "", _name(method)]
            cells += [_cell(mine[method].get(name), style) for name, style in styles]
            table.lines.append((_css(method, focus), cells))
    return table


def extra_tables(results: Results) -> list[Table]:
    """Tables that a benchmark brings as plain texts: ``extras["tables"]``, each ``{title, columns, lines}`` and, where
    there is more to say, ``text``."""
    return [
        Table(t["title"], t["columns"], [("", [_escape(cell) for cell in line]) for line in t["lines"]],
              t.get("text", ""), tags=["measured"])
        for t in results.extras.get("tables", [])
    ]  # fmt: skip


def cell_table(results: Results, focus: str) -> Table | None:
    """Every cell and every method."""
    rows = results.select(group="cell")
    if not rows:
        return None
    sums = _sum_names(rows)
    table = Table(
        f"Every cell ({len(rows)} rows)",
        ["data", "km/h", "CSI SNR [dB]", "method", "NMSE [dB]", f"gain over {_bar(results)} [dB]"]
        + [f"sum-SE, {name.removeprefix('sum_se_k')} users" for name in sums]
        + ["5 %-user SE", "single-user SE", "links / drops", "tuned to"],
    )
    previous, places = None, order([row.method for row in rows])
    keys = list(dict.fromkeys((row.data, row.speed_kmh, row.csi_snr_db) for row in rows))
    rows.sort(key=lambda row: (keys.index((row.data, row.speed_kmh, row.csi_snr_db)), places.index(row.method)))
    for row in rows:
        key = (row.data, row.speed_kmh, row.csi_snr_db)
        first = (
            [plots.title(row.data), _number(row.speed_kmh), _number(row.csi_snr_db)] if key != previous else [""] * 3
        )
        previous = key
        cells = first + [_name(row.method), _cell(row.figures.get("nmse_db"), ".2f")]
        cells.append(_cell(row.figures.get("gain_db"), "+.2f"))
        cells += [_cell(row.figures.get(name), ".2f") for name in sums]
        cells += [_cell(row.figures.get("se_5pct"), ".2f"), _cell(row.figures.get("se_single"), ".2f")]
        settings = ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
                             for name, value in row.settings.items())  # fmt: skip
        cells += [f"{row.num_links} / {row.num_drops}", _escape(settings) or "&ndash;"]
        table.lines.append((_css(row.method, focus), cells))
    return table


def break_even_table(results: Results) -> Table | None:
    """At which latency each method is worth no more than the bar at the bar's own measured latency."""
    rows = [row for row in results.select(group="age") if "latency_charged_at_p50" in row.figures]
    if not rows:
        return None
    table = Table(
        "Charged with their own latency",
        [
            "method",
            "latency p50 [ms]",
            "p99 [ms]",
            "sum-SE at its p50",
            "sum-SE at its p99",
            f"breaks even with {_bar(results)} at [ms]",
        ],
        tags=["modelled"],
    )
    for row in sorted(rows, key=lambda row: order([r.method for r in rows]).index(row.method)):
        names = ("latency_p50_ms", "latency_p99_ms", "latency_charged_at_p50", "latency_charged_at_p99")
        cells = [_name(row.method)] + [
            _cell(row.figures.get(name), ".3g" if name.endswith("_ms") else ".2f") for name in names
        ]
        cells.append(_escape(row.settings.get("break_even", "")) or "&ndash;")
        table.lines.append((_css(row.method, results.extras.get("focus", "")), cells))
    return table


def path_loss_table(results: Results) -> Table | None:
    """Users with their true path loss instead of equal mean power: a line per method, two columns per scenario."""
    rows = results.select(group="path_loss")
    if not rows:
        return None
    cells = list(dict.fromkeys((row.data, row.speed_kmh) for row in rows))
    name = _sum_names(rows)[0]
    columns = []
    for data, speed in cells:
        columns += [
            f"{plots.title(data)}, {speed:g} km/h: sum-SE, {name.removeprefix('sum_se_k')} users",
            "5 %-user SE",
        ]
    text, tags = results.extras.get("path_loss_text", ""), ["measured"]
    table = Table("With true path loss [bit/s/Hz]", ["method", *columns], text=text, tags=tags)
    for method in order([row.method for row in rows]):
        line = [_name(method)]
        for cell in cells:
            here = [row.figures for row in rows if (row.data, row.speed_kmh) == cell and row.method == method]
            figures = here[0] if here else {}
            line += [_cell(figures.get(name), ".2f"), _cell(figures.get("se_5pct"), ".2f")]
        table.lines.append((_css(method, results.extras.get("focus", "")), line))
    return table


def key_facts(results: Results, focus: str) -> list[tuple[str, str]]:
    """Three to four large numbers under the headline."""
    rows = {row.method: row for row in results.select(group="mean")}
    if focus not in rows:
        return []
    figures, label, facts = rows[focus].figures, look(focus).label, []
    if "gain_cells_db" in figures:
        facts.append(
            (
                f"{figures['gain_cells_db'].value:+.2f} dB",
                f"NMSE gain of {label} over {bar_label(results.extras.get('bar', 'ar'))}, mean over cells",
            )
        )
    sums = _sum_names([rows[focus]])
    limit = rows.get("perfect") or rows.get("perfect + rzf")
    if sums and limit is not None and sums[0] in limit.figures:
        value, perfect = figures[sums[0]].number, limit.figures[sums[0]].number
        users = sums[0].removeprefix("sum_se_k")
        facts.append(
            (f"{value:.1f} bit/s/Hz", f"sum-SE of {users} users, {100 * value / perfect:.0f} % of perfect CSI")
        )
    if "latency_p50_ms" in figures:
        p50, p99 = figures["latency_p50_ms"].value, figures["latency_p99_ms"].value
        what = results.extras.get("latency_text", "median latency of one prediction on one CPU thread")
        facts.append((f"{p50:.1f} ms", f"{what} (p99 {p99:.1f} ms)"))
    if rows[focus].parameters_total:
        facts.append((f"{rows[focus].parameters_total / 1e6:.2f} M", "parameters"))
    return facts


def _small_print(results: Results, rows: list[Row]) -> str:
    """What the figures of the table mean that are there."""
    there = {name for row in rows for name in row.figures}
    what = results.extras.get("latency_text", "median and 99th percentile of one prediction, batch 1, one thread")
    sentences = {
        "se_single": "SE of one user: alone, with a matched beam; below it what 95 % of the users of the smallest "
        "groups exceed.",
        "latency_p50_ms": f"Latency: {what}.",
        "flops": "FLOPs are those of matrix products.",
    }
    return " ".join(["Small print: 95 % intervals.", *(text for name, text in sentences.items() if name in there)])


def _bar(results: Results) -> str:
    return short(results.extras.get("bar", "ar")).removesuffix(" with shrinkage (tuned)")


def _tone(results: Results, focus: str) -> str:
    for row in results.select(group="mean", method=focus):
        words = {verdict(row.figures[name]) for name in ("gain_linear_db", "gain_cells_db") if name in row.figures}
        return words.pop() if len(words) == 1 else "level"
    return ""


def _machine(results: Results) -> str:
    env = results.environment
    versions = ", ".join(f"{name} {version}" for name, version in env.get("versions", {}).items())
    return (
        f"{env.get('processor', '')}, {env.get('cores', '?')} cores, {env.get('threads', '?')} thread(s) used; "
        f"{env.get('system', '')}; {versions}; {env.get('date', '')}."
    )


def _sum_names(rows: list[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row.figures if name.startswith("sum_se_k"))
    return [name for name in names if name.removeprefix("sum_se_k").isdigit()]


def _css(method: str, focus: str) -> str:
    return "focus" if method == focus else "bound" if method in BOUNDS else ""


def _name(method: str) -> str:
    return f'<span class="dot" style="background:{look(method).color}"></span>{_escape(look(method).label)}'


def _cell(figure: Figure | None, style: str) -> str:
    if figure is None:
        return "&ndash;"
    text = f"{figure.value:{style}}"
    if figure.interval is not None:
        low, high = figure.interval
        text += f"<small>{low:{style}} &hellip; {high:{style}}</small>"
    return text


def _one_user(row: Row) -> str:
    if "se_single" not in row.figures:
        return "&ndash;"
    worst = f"<small>5 % user {row.figures['se_5pct'].number:.2f}</small>" if "se_5pct" in row.figures else ""
    return f"{row.figures['se_single'].number:.2f}{worst}"


def _p50_p99(row: Row) -> str:
    if "latency_p50_ms" not in row.figures:
        return "&ndash;"
    return f"{row.figures['latency_p50_ms'].value:.3g}<small>p99 {row.figures['latency_p99_ms'].value:.3g}</small>"


def _number(value: float | None) -> str:
    return "&ndash;" if value is None else f"{value:g}"


def _escape(text: Any) -> str:
    from markupsafe import escape

    return str(escape(text))


def _table_html(table: Table) -> str:
    words = [name in ("data", "method", "tuned to") for name in table.columns]
    head = "".join(
        f"<th{' class=word' * word}>{_escape(name)}</th>" for name, word in zip(table.columns, words, strict=True)
    )
    body = "\n".join(
        f'<tr class="{css}">'
        + "".join(f"<td{' class=word' * word}>{cell}</td>" for cell, word in zip(cells, words, strict=True))
        + "</tr>"
        for css, cells in table.lines
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
