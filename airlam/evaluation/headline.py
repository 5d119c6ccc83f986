"""The sentence on top of a report, computed from its rows: it says so when the model loses."""

from __future__ import annotations

from airlam.evaluation.methods import look
from airlam.evaluation.rows import Figure, Results, Row


def verdict(gain: Figure) -> str:
    """One word on a paired gain: better, worse, or level where the 95 % interval contains zero or is missing.

    Example:
        >>> verdict(Figure(0.5, "dB", "measured", interval=(0.3, 0.7)))
        'better'
    """
    if gain.interval is None:
        return "level"
    low, high = gain.ends
    return "better" if low > 0 else "worse" if high < 0 else "level"


def headline(results: Results, method: str, bar: str = "ar") -> str:
    """One paragraph that compares ``method`` with ``bar`` over the means of all cells.

    Args:
        results: rows of group "mean" with ``gain_linear_db``, ``gain_cells_db`` (paired, positive is better),
            ``cells_worse``, ``cells``; where present also ``start_gain_linear_db`` (over the method's own classical
            start) and the sum-SE of groups.
        method: the learned method that the report is about.
        bar: the method it is compared with.
    """
    rows = {row.method: row for row in results.select(group="mean")}
    if method not in rows or bar not in rows:
        return f"No comparison: the results hold no mean row of {method if method not in rows else bar}."
    text = _prediction(rows[method], look(method).label, bar_label(bar))
    return f"{text} {_spectral_efficiency(rows, method, bar)}".strip()


GAINS = {  # besides the one over the bar; what the sentence on each begins with
    "best_classic": "Against the strongest of the classical methods of this table, {}, it gains",
    "start": "Over its own classical start the learned correction gains",
    "adaptation": "Over the shipped model as it is, adaptation gains",
    "pretraining": "Over a random start with the same target data and steps, pretraining gains",
}


def details(results: Results, method: str, bar: str = "ar") -> list[str]:
    """What the headline leaves out and a reader must know: the bar need not be the strongest of the classical
    methods run, and the network's own share, that of adaptation and that of pretraining are each a figure."""
    sentences = []
    for row in results.select(group="mean", method=method):
        for gain, begin in GAINS.items():
            if f"{gain}_gain_linear_db" not in row.figures:
                continue
            linear, cells = row.figures[f"{gain}_gain_linear_db"], row.figures[f"{gain}_gain_cells_db"]
            if gain == "best_classic" and linear.note == bar:
                continue
            text = f"{begin.format(look(linear.note).label)} {_signed(linear)}"
            if row.figures["cells"].number > 1:
                text += f" in the linear mean and {_signed(cells)} in the mean over cells"
            sentences.append(text + ".")
    return sentences + _every_cell(results, method, bar) + _lost(results, method, bar) + _charged(results, method, bar)


def _every_cell(results: Results, method: str, bar: str) -> list[str]:
    """Verdicts over all cells, the sweep over CSI SNR included."""
    rows = [row for row in results.select(group="cell", method=method) if "gain_db" in row.figures]
    snrs = sorted({row.csi_snr_db for row in rows if row.csi_snr_db is not None})
    if len(snrs) < 2:
        return []
    words = [verdict(row.figures["gain_db"]) for row in rows]
    return [
        f"Over all {len(rows)} cells of scenario, speed and CSI SNR from {snrs[0]:g} to {snrs[-1]:g} dB it is clearly "
        f"better than {bar_label(bar)} in {words.count('better') or 'none'} and clearly worse in "
        f"{words.count('worse') or 'none'}."
    ]


def _lost(results: Results, method: str, bar: str) -> list[str]:
    """CSI periods and impairments under which the bar's NMSE is the lower one."""
    periods = {row.method: row.figures.get("nmse_db") for row in results.select(group="csi_period")}
    mine, theirs = periods.get(method), periods.get(bar)
    sentences = []
    if mine and theirs and isinstance(mine.value, list) and isinstance(theirs.value, list) and mine.axis:
        behind = [f"{t:g} ms" for t, a, b in zip(mine.axis, mine.value, theirs.value, strict=True) if a > b]
        if behind:
            sentences.append(f"At CSI periods of {', '.join(behind)} {bar_label(bar)} has the lower NMSE.")
    rows = {(row.method, row.settings["impairment"]): row.figures for row in results.select(group="impairments")}
    kinds = dict.fromkeys(kind for name, kind in rows if name == method and (bar, kind) in rows)
    behind = [k for k in kinds if rows[method, k]["nmse_db"].number > rows[bar, k]["nmse_db"].number]
    if behind:
        sentences.append(f"Under impairments ({', '.join(behind)}) {bar_label(bar)} has the lower NMSE.")
    return sentences


def _charged(results: Results, method: str, bar: str) -> list[str]:
    """Whether the gain survives the method's own latency."""
    rows = {row.method: row for row in results.select(group="age")}
    name = "latency_charged_at_p50"
    if method not in rows or bar not in rows or name not in rows[bar].figures:
        return []
    mine, theirs = rows[method], rows[bar].figures[name].number
    where = f"at {mine.speed_kmh:g} km/h, charged with the latency measured on this machine"
    if name not in mine.figures:
        return [f"Modelled {where}, it comes too late: its median latency is beyond the curve's end."]
    p50, value = mine.figures["latency_p50_ms"].number, mine.figures[name].number
    text = f"Modelled {where} (median {p50:.1f} ms), its sum-SE is {value:.2f} bit/s/Hz against {theirs:.2f} of "
    even = mine.settings.get("break_even", "never")
    return [f"{text}{bar_label(bar)}; it {'never breaks even' if even == 'never' else f'breaks even up to {even} ms'}."]


def bar_label(bar: str) -> str:
    """The bar as it stands in a sentence."""
    return "the tuned AR" if bar == "ar" else look(bar).label


def _prediction(row: Row, name: str, other: str) -> str:
    linear, cells = row.figures["gain_linear_db"], row.figures["gain_cells_db"]
    count, worse = int(row.figures["cells"].number), int(row.figures["cells_worse"].number)
    both = " in the linear mean and {} in the mean over cells" if count > 1 else ""
    verdicts = {verdict(linear), verdict(cells)}
    if verdicts == {"better"}:
        text = f"{name} predicts better than {other}: its NMSE is lower by {_size(linear)}"
        text += both.format(_size(cells))
    elif verdicts == {"worse"}:
        text = f"{name} predicts worse than {other}: its NMSE is higher by {_size(linear)}"
        text += both.format(_size(cells))
    elif verdicts == {"level"}:
        text = f"{name} and {other} cannot be told apart: the NMSE gain is {_signed(linear)}"
        text += both.format(_signed(cells))
    else:
        text = f"The two means do not agree on {name} against {other}: the NMSE gain is {_signed(linear)}"
        text += (
            f" in the linear mean ({verdict(linear)}) and {_signed(cells)} in the mean over cells ({verdict(cells)})"
        )
    if count > 1:
        text += f"; it is clearly worse in {worse or 'none'} of {count} cells"
    return text + "."


def _spectral_efficiency(rows: dict[str, Row], method: str, bar: str) -> str:
    mine, theirs = rows[method].figures, rows[bar].figures
    names = [name for name in mine if name.startswith("sum_se_k") and name.removeprefix("sum_se_k").isdigit()]
    if not names or names[0] not in theirs:
        return ""
    name = names[0]
    text = f"Sum spectral efficiency of {name.removeprefix('sum_se_k')} users: {mine[name].number:.2f} bit/s/Hz"
    text += f" against {theirs[name].number:.2f}"
    if f"{name}_gain" in mine:
        gain = mine[f"{name}_gain"]
        interval = f", 95 % interval {gain.ends[0]:+.2f} to {gain.ends[1]:+.2f}" if gain.interval else ""
        text += f" ({gain.number:+.2f}{interval}: {verdict(gain)})"
    if "perfect" in rows and name in rows["perfect"].figures:
        text += f"; perfect CSI would give {rows['perfect'].figures[name].number:.2f}"
    if "hold" in rows and bar != "hold" and name in rows["hold"].figures:
        text += f", outdated CSI gives {rows['hold'].figures[name].number:.2f}"
    return text + "."


def _size(gain: Figure) -> str:
    """The gain without its sign: the sentence around it says which way it goes."""
    low, high = sorted(abs(end) for end in gain.ends)
    return f"{abs(gain.number):.2f} dB" + (f" (95 % interval {low:.2f} to {high:.2f})" if gain.interval else "")


def _signed(gain: Figure) -> str:
    low, high = gain.ends
    return f"{gain.number:+.2f} dB" + (f" (95 % interval {low:+.2f} to {high:+.2f})" if gain.interval else "")
