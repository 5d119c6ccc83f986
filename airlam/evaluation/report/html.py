"""``report.html`` from :class:`airlam.evaluation.rows.Results`: one file, no link to anything outside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from airlam.evaluation.engine.timing import BUSY, is_busy
from airlam.evaluation.report import plots
from airlam.evaluation.report.markdown import write_tables
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.sentences import bar_label
from airlam.evaluation.report.style import BOUNDS, look, order, short
from airlam.evaluation.report.verdicts import banner, support, verdict
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
    "sum_se_vs_users": "Sum spectral efficiency and mean rate of a user against the number of users served together: "
    "they share the transmit power and the antennas, and disturb each other where CSI is wrong.",
    "sum_se_vs_pilots": "Static users send fewer pilots than the base station has antennas, received through an analog "
    "combiner of random phases; spectral efficiency is computed on the true channel.",
    "throughput_vs_snr": "Bits of the transport blocks that are decoded without error, with the MCS chosen at each "
    "SNR.",
    "bler_vs_snr": "Block error rate with the entry of the MCS table at which the methods differ most.",
    "beam_accuracy": "Share of cases in which the predicted beam is the best one, against the number of beams "
    "measured in a sweep, the SNR of each measurement, and the time between sweeps.",
    "beam_se_ratio": "Spectral efficiency with the predicted beam relative to that with the best beam; mean over the "
    "horizon.",
    "latency_bars": "Time of one prediction (one link, all its antennas and subcarriers). Bar: median; whisker: 99th "
    "percentile.",
    "latency_charged": "Modelled effect of the latency of prediction: a prediction that takes longer serves later "
    "slots. The precoder in service at latency L uses the prediction for the slots that follow L; beyond the "
    "horizon the last predicted slot is held.",
    "csi_period": "CSI measured less often: the history is sampled at the period, and spectral efficiency is judged "
    "at the end of the period, when the prediction is oldest.",
    "impairments": "One cell with an impaired history; the target stays the true channel. A phase that all of a "
    "user's antennas and subcarriers share does not change what a precoder does, so a carrier offset costs NMSE and "
    "hardly any sum-SE; what differs from slot to slot disturbs the prediction itself. Lost slots are interpolated "
    "linearly for the classical methods; the learned method is told which they are and ignores them.",
    "nmse_vs_rounds": "NMSE of all sites' validation users after each round, against what was spent until then: "
    "rounds, measured bytes, modelled seconds. Dotted line: the model before training.",
    "nmse_vs_clients": "NMSE of all sites' held-out users against the number of clients, each with its own small share "
    "of the data.",
    "beam_delay_picture": "One held-out channel, last predicted slot, in the beam-delay domain.",
}
HEADLINE_CELLS = ("nmse_vs_speed", "nmse_vs_horizon", "sum_se_vs_speed", "sum_se_vs_transmit_snr")
GROUPS = {  # the rows that the other plots show
    "gain_forest": ("cell",),
    "nmse_vs_csi_snr": ("cell",),
    "sum_se_vs_csi_snr": ("cell",),
    "sum_se_vs_users": ("users",),
    "sum_se_vs_pilots": ("pilots",),
    "throughput_vs_snr": ("link",),
    "bler_vs_snr": ("link",),
    "beam_accuracy": ("beams", "snr", "period"),
    "beam_se_ratio": ("beams", "snr", "period"),
    "latency_charged": ("age",),
    "csi_period": ("csi_period",),
    "impairments": ("impairments",),
    "nmse_vs_rounds": ("methods",),
    "nmse_vs_clients": ("clients",),
}
DASH = Markup("&ndash;")
SMALL = Markup("<small>{}</small>")
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
    """A table of the report, computed here so that the template stays a template.

    The template escapes every text of it. Cells with HTML of their own are ``markupsafe.Markup``, made by
    ``Markup.format``, which escapes what it inserts.
    """

    title: str
    columns: list[str]
    lines: list[tuple[str, Sequence[str]]] = field(default_factory=list)  # (css class of the line, cells)
    text: str = ""
    note: str = ""
    support: str = ""
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

    out = Path(out)
    drawings = plots.save_all(results, out / "plots")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("airlam.evaluation.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
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
                "support": plot_support(name, results),
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
        banner=banner(results),
        word_columns=("data", "method", "tuned to"),
    )
    return write_text(out / "report.html", html)


def caption(name: str, results: Results) -> str:
    """The text under a plot."""
    return CAPTIONS[name].format(
        resampled=results.extras.get("resampled", "drops"), bar=bar_label(results.extras.get("bar", "ar"))
    )


def plot_support(name: str, results: Results) -> str:
    """On how many links and drops each point of a plot rests."""
    if name in HEADLINE_CELLS:
        rows = plots.headline_cells(results)
    else:
        rows = [row for row in results.rows if row.group in GROUPS.get(name, ())]
    found = support(rows, _resampled(results))
    return f"Each point rests on {found}." if found else ""


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
        support=_in_all(results, list(rows.values())),
    )
    looks = Looks.of(results)
    for method in order(list(rows)):
        row = rows[method]
        size = Markup(f"{row.parameters_total:,}") if row.parameters_total else DASH
        if row.parameters_trainable:
            size += SMALL.format(f"{row.parameters_trainable:,} trained")
        if "flops" in row.figures:
            size += SMALL.format(f"{row.figures['flops'].number / 1e6:.0f} MFLOP")
        cells = [_name(looks, method), size]
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
        [
            "data",
            "method",
            "NMSE [dB], linear mean",
            gain,
            "NMSE [dB], mean of cells",
            gain,
            *(f"sum-SE, {name.removeprefix('sum_se_k')} users [bit/s/Hz]" for name in sums),
        ],
        tags=["measured"],
        text="Means over speeds. Classical methods are tuned on each kind of data; the learned one is used as it is.",
        support=_in_all(results, rows),
    )
    looks = Looks.of(results)
    for label in dict.fromkeys(row.settings["held_out"] for row in rows):
        mine = {row.method: row.figures for row in rows if row.settings["held_out"] == label}
        for place, method in enumerate(order(list(mine))):
            styles = (
                ("nmse_linear_db", ".2f"),
                ("gain_linear_db", "+.2f"),
                ("nmse_cells_db", ".2f"),
                ("gain_cells_db", "+.2f"),
                *((name, ".2f") for name in sums),
            )
            cells = [label if place == 0 else "", _name(looks, method)]
            cells += [_cell(mine[method].get(name), style) for name, style in styles]
            table.lines.append((_css(method, focus), cells))
    return table


def extra_tables(results: Results) -> list[Table]:
    """Tables that a benchmark brings as plain texts: ``extras["tables"]``, each ``{title, columns, lines}`` and, where
    there is more to say, ``text``."""
    found = support(results.rows, _resampled(results))
    rests = f"Each figure rests on {found}." if found else ""
    return [
        Table(
            t["title"],
            t["columns"],
            [("", [str(cell) for cell in line]) for line in t["lines"]],
            t.get("text", ""),
            support=rests,
            tags=["measured"],
        )
        for t in results.extras.get("tables", [])
    ]


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
    looks = Looks.of(results)
    previous, places = None, order([row.method for row in rows])
    keys = list(dict.fromkeys((row.data, row.speed_kmh, row.csi_snr_db) for row in rows))
    rows.sort(key=lambda row: (keys.index((row.data, row.speed_kmh, row.csi_snr_db)), places.index(row.method)))
    for row in rows:
        key = (row.data, row.speed_kmh, row.csi_snr_db)
        first = (
            [plots.title(row.data), _number(row.speed_kmh), _number(row.csi_snr_db)] if key != previous else [""] * 3
        )
        previous = key
        cells = first + [_name(looks, row.method), _cell(row.figures.get("nmse_db"), ".2f")]
        cells.append(_cell(row.figures.get("gain_db"), "+.2f"))
        cells += [_cell(row.figures.get(name), ".2f") for name in sums]
        cells += [_cell(row.figures.get("se_5pct"), ".2f"), _cell(row.figures.get("se_single"), ".2f")]
        settings = ", ".join(
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in row.settings.items()
        )
        cells += [f"{row.num_links} / {row.num_drops}", settings or DASH]
        table.lines.append((_css(row.method, focus), cells))
    return table


def break_even_table(results: Results) -> Table | None:
    """At which latency each method is worth no more than the baseline at the baseline's own measured latency."""
    rows = [row for row in results.select(group="age") if "latency_charged_at_p50" in row.figures]
    if not rows:
        return None
    table = Table(
        "At each method's own latency",
        [
            "method",
            "latency p50 [ms]",
            "p99 [ms]",
            "sum-SE at its p50",
            "sum-SE at its p99",
            f"latency at which it is worth what {_bar(results)} is at its p50 [ms]",
        ],
        tags=["modelled"],
        support=plot_support("latency_charged", results),
    )
    looks = Looks.of(results)
    for row in sorted(rows, key=lambda row: order([r.method for r in rows]).index(row.method)):
        names = ("latency_p50_ms", "latency_p99_ms", "latency_charged_at_p50", "latency_charged_at_p99")
        cells = [_name(looks, row.method)] + [
            _cell(row.figures.get(name), ".3g" if name.endswith("_ms") else ".2f") for name in names
        ]
        cells.append(row.settings.get("break_even", "") or DASH)
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
    table.support, looks = f"Each figure rests on {support(rows, _resampled(results))}.", Looks.of(results)
    for method in order([row.method for row in rows]):
        line = [_name(looks, method)]
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
    bar = results.extras.get("bar", "ar")
    if "gain_cells_db" in figures:
        facts.append(
            (
                f"{figures['gain_cells_db'].value:+.2f} dB",
                f"NMSE gain of {label} over {bar_label(bar)}, mean over cells",
            )
        )
    if (strongest := figures.get("best_classic_gain_cells_db")) is not None and strongest.note != bar:
        what = f"NMSE gain over {look(strongest.note).label}, the strongest classical method of the table"
        facts.append((f"{strongest.value:+.2f} dB", what))
    sums = _sum_names([rows[focus]])
    limit = rows.get("perfect") or rows.get("perfect + tuned") or rows.get("perfect + rzf")
    if sums and limit is not None and sums[0] in limit.figures:
        value, perfect = figures[sums[0]].number, limit.figures[sums[0]].number
        users = sums[0].removeprefix("sum_se_k")
        facts.append(
            (f"{value:.1f} bit/s/Hz", f"sum-SE of {users} users, {100 * value / perfect:.0f} % of perfect CSI")
        )
    if "latency_p50_ms" in figures:
        p50, p99 = figures["latency_p50_ms"].value, figures["latency_p99_ms"].value
        what = results.extras.get("latency_text", "median latency of one prediction on one CPU thread")
        busy = f"; {BUSY}: an idle one is faster" if is_busy(figures["latency_p50_ms"]) else ""
        facts.append((f"{p50:.1f} ms", f"{what} (p99 {p99:.1f} ms{busy})"))
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
    words = ["Below each figure: its 95 % interval.", *(text for name, text in sentences.items() if name in there)]
    if any(is_busy(row.figures.get("latency_p50_ms")) for row in rows):
        words.append(
            f"“{BUSY}”: other programs held the core for more than a tenth of the timed calls, so an idle machine is "
            "faster."
        )
    return " ".join(words)


def _bar(results: Results) -> str:
    return short(results.extras.get("bar", "ar")).removesuffix(" with shrinkage (tuned)")


def _tone(results: Results, focus: str) -> str:
    if results.config.get("quick"):
        return "level"
    for row in results.select(group="mean", method=focus):
        gains = [f"{over}gain_{mean}_db" for over in ("", "best_classic_") for mean in ("linear", "cells")]
        words = {verdict(row.figures[name]) for name in gains if name in row.figures}
        return words.pop() if words in ({"better"}, {"worse"}) else "level"
    return ""


def _machine(results: Results) -> str:
    env = results.environment
    versions = ", ".join(f"{name} {version}" for name, version in env.get("versions", {}).items())
    return (
        f"{env.get('processor', '')}, {env.get('cores', '?')} cores, {env.get('threads', '?')} thread(s) used; "
        f"{env.get('system', '')}; {versions}; {env.get('date', '')}."
    )


def _resampled(results: Results) -> str:
    return results.extras.get("resampled", "drops")


def _in_all(results: Results, rows: list[Row]) -> str:
    found = support(rows, _resampled(results))
    return f"Each row rests on {found}, all cells together." if found else ""


def _sum_names(rows: list[Row]) -> list[str]:
    names = dict.fromkeys(name for row in rows for name in row.figures if name.startswith("sum_se_k"))
    return [name for name in names if name.removeprefix("sum_se_k").isdigit()]


def _css(method: str, focus: str) -> str:
    return "focus" if method == focus else "bound" if method in BOUNDS else ""


def _name(looks: Looks, method: str) -> Markup:
    return Markup('<span class="dot" style="background:{}"></span>{}').format(looks[method].color, looks[method].label)


def _cell(figure: Figure | None, style: str) -> Markup:
    if figure is None:
        return DASH
    text = Markup(f"{figure.value:{style}}")
    if figure.interval is not None:
        low, high = figure.interval
        text += SMALL.format(f"{low:{style}} … {high:{style}}")
    return text


def _one_user(row: Row) -> Markup:
    if "se_single" not in row.figures:
        return DASH
    text = Markup(f"{row.figures['se_single'].number:.2f}")
    return text + SMALL.format(f"5 % user {row.figures['se_5pct'].number:.2f}") if "se_5pct" in row.figures else text


def _p50_p99(row: Row) -> Markup:
    if "latency_p50_ms" not in row.figures:
        return DASH
    p50, p99 = row.figures["latency_p50_ms"], row.figures["latency_p99_ms"]
    text = Markup(f"{p50.value:.3g}") + SMALL.format(f"p99 {p99.value:.3g}")
    return text + SMALL.format(BUSY) if is_busy(p50) else text


def _number(value: float | None) -> str:
    return DASH if value is None else f"{value:g}"
