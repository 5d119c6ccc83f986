"""The sentence on top of a report, computed from its rows: it says so when the model loses."""

from __future__ import annotations

from airlam.evaluation.engine.timing import is_busy
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.style import is_classical
from airlam.evaluation.report.verdicts import MIN_GROUPS, NO_VERDICT, verdict
from airlam.evaluation.rows import Figure, Results, Row

__all__ = ["details", "headline", "verdict"]


def headline(results: Results, method: str, bar: str = "ar") -> str:
    """One paragraph that compares ``method`` with ``bar``, and with the strongest classical method, over all cells.

    Args:
        results: rows of group "mean" with ``gain_linear_db``, ``gain_cells_db`` (paired, positive is better),
            ``cells_worse``, ``cells``; where present also ``best_classic_gain_linear_db`` (over the classical method
            with the lowest NMSE, which its note names) and the sum-SE of groups.
        method: the learned method that the report is about.
        bar: the baseline that gains are relative to.
    """
    rows = {row.method: row for row in results.select(group="mean")}
    if method not in rows or bar not in rows:
        return f"No comparison: the results hold no mean row of {method if method not in rows else bar}."
    looks, resampled = Looks.of(results), results.extras.get("resampled", "drops")
    sentences = (
        _prediction(rows[method], looks[method].label, looks.in_a_sentence(bar), resampled),
        _strongest(rows[method], bar, looks),
        _spectral_efficiency(rows, method, bar, looks),
    )
    return " ".join(sentence for sentence in sentences if sentence)


GAINS = {  # besides those of the headline; what the sentence on each begins with
    "start": "Compared with the same model with its learned correction switched off, the NMSE gain is",
    "adaptation": "Compared with the shipped model without adaptation, the NMSE gain is",
    "pretraining": "Compared with the same network, trained from random weights on the same data for the same steps, "
    "the NMSE gain is",
}


def details(results: Results, method: str, bar: str = "ar") -> list[str]:
    """Sentences under the headline: the gain of the network itself, of adaptation and of pretraining, each by itself;
    verdicts over all cells; where the baseline is better; and whether the gain survives the method's own latency."""
    sentences = []
    for row in results.select(group="mean", method=method):
        for gain, begin in GAINS.items():
            if f"{gain}_gain_linear_db" not in row.figures:
                continue
            sentences.append(f"{begin} {_two_means(row, gain)}.")
    return sentences + _every_cell(results, method, bar) + _lost(results, method, bar) + _charged(results, method, bar)


def _every_cell(results: Results, method: str, bar: str) -> list[str]:
    """Verdicts over all cells, the sweep over CSI SNR included."""
    rows = [row for row in results.select(group="cell", method=method) if "gain_db" in row.figures]
    snrs = sorted({row.csi_snr_db for row in rows if row.csi_snr_db is not None})
    if len(snrs) < 2:
        return []
    words = [verdict(row.figures["gain_db"]) for row in rows]
    judged = len(words) - words.count(NO_VERDICT)
    text = f"There are {len(rows)} cells of scenario, speed and CSI SNR, from {snrs[0]:g} to {snrs[-1]:g} dB. "
    enough = f"the {MIN_GROUPS} {results.extras.get('resampled', 'drops')} that a verdict takes"
    if not judged:
        return [f"{text}None of them rests on {enough}."]
    label = Looks.of(results).in_a_sentence(bar)
    which = "In" if judged == len(rows) else f"{judged} of them rest on {enough}: in"
    return [
        f"{text}{which} {words.count('better')} it is better than {label}, in {words.count('worse')} worse "
        "(whole 95 % interval of the paired gain on one side of zero)."
    ]


def _lost(results: Results, method: str, bar: str) -> list[str]:
    """CSI periods, impairments and odd inputs under which the baseline has the lower NMSE."""
    label = Looks.of(results).in_a_sentence(bar)
    periods = {row.method: row.figures.get("nmse_db") for row in results.select(group="csi_period")}
    mine, theirs = periods.get(method), periods.get(bar)
    sentences = []
    if mine and theirs and isinstance(mine.value, list) and isinstance(theirs.value, list) and mine.axis:
        behind = [f"{t:g} ms" for t, a, b in zip(mine.axis, mine.value, theirs.value, strict=True) if a > b]
        if behind:
            sentences.append(f"At CSI periods of {', '.join(behind)} {label} has the lower NMSE.")
    for group, key, where in (
        ("impairments", "impairment", "Under impairments"),
        ("odd", "odd", "On other inputs and under broken assumptions"),
    ):
        rows = {(row.method, row.settings[key]): row.figures for row in results.select(group=group)}
        kinds = dict.fromkeys(kind for name, kind in rows if name == method and (bar, kind) in rows)
        behind = [k for k in kinds if rows[method, k]["nmse_db"].number > rows[bar, k]["nmse_db"].number]
        if behind:
            sentences.append(f"{where} ({', '.join(behind)}) {label} has the lower NMSE.")
    return sentences


def _charged(results: Results, method: str, bar: str) -> list[str]:
    """Whether the gain survives the method's own latency."""
    rows = {row.method: row for row in results.select(group="age")}
    name = "latency_charged_at_p50"
    if method not in rows or bar not in rows or name not in rows[bar].figures:
        return []
    mine, theirs, label = rows[method], rows[bar].figures[name].number, Looks.of(results).in_a_sentence(bar)
    where = f"at {mine.speed_kmh:g} km/h with the latency measured on this machine"
    if name not in mine.figures:
        return [f"Modelled {where}, its predictions come too late: its median latency is beyond the curve's end."]
    p50, value = mine.figures["latency_p50_ms"], mine.figures[name].number
    median = f"median {p50.number:.1f} ms" + (", on a busy machine" if is_busy(p50) else "")
    text = f"Modelled {where} ({median}), its sum-SE is {value:.2f} bit/s/Hz against {theirs:.2f} of {label}; "
    even = mine.settings.get("break_even", "never")
    last = "it is worth less at any latency" if even == "never" else f"it is worth more up to a latency of {even} ms"
    return [f"{text}{last}."]


def _prediction(row: Row, name: str, other: str, resampled: str) -> str:
    linear, cells = row.figures["gain_linear_db"], row.figures["gain_cells_db"]
    count, worse = int(row.figures["cells"].number), int(row.figures["cells_worse"].number)
    both = " in the linear mean and {} in the mean over cells" if count > 1 else ""
    verdicts = {verdict(linear), verdict(cells)}
    if NO_VERDICT in verdicts:
        text = f"No verdict on {name} against {other}: the NMSE gain is {_signed(linear)}{both.format(_signed(cells))}"
        few = linear.groups
        why = "there is no interval" if few is None or few < 2 else f"its interval rests on {few} {resampled} in a cell"
        return f"{text}, but {why}, and a verdict takes at least {MIN_GROUPS} {resampled}."
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
    text += "."
    if count > 1:
        judged = int(row.figures["cells_judged"].number) if "cells_judged" in row.figures else count
        text += f" It is worse in {worse} of {judged} cells (whole 95 % interval of the gain below zero)."
    return text


def _strongest(row: Row, bar: str, looks: Looks) -> str:
    """The gain over the classical method with the lowest NMSE."""
    if "best_classic_gain_linear_db" not in row.figures:
        return ""
    linear, cells = row.figures["best_classic_gain_linear_db"], row.figures["best_classic_gain_cells_db"]
    if linear.note == bar:
        return f"Of the classical methods of this table, {looks.in_a_sentence(bar)} is the strongest."
    words = sorted({verdict(linear), verdict(cells)})
    return (
        f"Compared with {looks[linear.note].label}, the strongest of the classical methods of this table, the gain is "
        f"{_two_means(row, 'best_classic')} ({' and '.join(words)})."
    )


def _two_means(row: Row, gain: str) -> str:
    linear, cells = row.figures[f"{gain}_gain_linear_db"], row.figures[f"{gain}_gain_cells_db"]
    if row.figures["cells"].number <= 1:
        return _signed(linear)
    return f"{_signed(linear)} in the linear mean and {_signed(cells)} in the mean over cells"


def _spectral_efficiency(rows: dict[str, Row], method: str, bar: str, looks: Looks) -> str:
    sizes = rows[method].group_sizes
    if not sizes or rows[bar].sum_se(sizes[0]) is None:
        return ""
    users = sizes[0]
    reached = {m: figure.number for m, row in rows.items() if (figure := row.sum_se(users)) is not None}
    text = f"Sum spectral efficiency of {users} users: {reached[method]:.2f} bit/s/Hz"
    text += f" against {reached[bar]:.2f} of {looks.in_a_sentence(bar)}"
    if (gain := rows[method].sum_se_gain(users)) is not None:
        interval = f", 95 % interval {gain.ends[0]:+.2f} to {gain.ends[1]:+.2f}" if gain.interval else ""
        text += f" ({gain.number:+.2f}{interval}: {verdict(gain)})"
    classical = {m: value for m, value in reached.items() if is_classical(m)}
    strongest = max(classical, key=lambda m: classical[m], default=bar)
    if strongest != bar and classical[strongest] > reached[bar]:
        text += f"; {looks[strongest].label}, the strongest classical method, reaches {classical[strongest]:.2f}"
    if "perfect" in reached:
        text += f"; perfect CSI would give {reached['perfect']:.2f}"
    if "hold" in reached and bar != "hold":
        text += f", outdated CSI gives {reached['hold']:.2f}"
    return text + "."


def _size(gain: Figure) -> str:
    """The gain without its sign: the sentence around it says which way it goes."""
    low, high = sorted(abs(end) for end in gain.ends)
    return f"{abs(gain.number):.2f} dB" + (f" (95 % interval {low:.2f} to {high:.2f})" if gain.interval else "")


def _signed(gain: Figure) -> str:
    low, high = gain.ends
    return f"{gain.number:+.2f} dB" + (f" (95 % interval {low:+.2f} to {high:+.2f})" if gain.interval else "")
