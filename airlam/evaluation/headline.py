"""The sentence on top of a report, computed from its rows: it says so when the model loses."""

from __future__ import annotations

from airlam.evaluation.methods import look
from airlam.evaluation.rows import Figure, Results


def verdict(gain: Figure) -> str:
    """"better", "worse", or "level" where the 95 % interval of a paired gain contains zero.

    Example:
        >>> verdict(Figure(0.5, "dB", "measured", interval=(0.3, 0.7)))
        'better'
    """
    low, high = gain.interval if gain.interval is not None else (gain.value, gain.value)
    if low > 0:  # type: ignore[operator]
        return "better"
    return "worse" if high < 0 else "level"  # type: ignore[operator]


def headline(results: Results, method: str, bar: str = "ar") -> str:
    """One paragraph that compares ``method`` with ``bar`` over the means of all cells.

    Args:
        results: rows of group "mean" with ``gain_linear_db``, ``gain_cells_db`` (paired, positive is better),
            ``cells_worse``, ``cells``, and the sum-SE of groups.
        method: the learned method that the report is about.
        bar: the method it is compared with.
    """
    rows = {row.method: row for row in results.select(group="mean")}
    if method not in rows or bar not in rows:
        return f"No comparison: the results hold no mean row of {method if method not in rows else bar}."
    mine, theirs = rows[method].figures, rows[bar].figures
    linear, cells = mine["gain_linear_db"], mine["gain_cells_db"]
    name, other = look(method).label, _bar_label(bar)
    verdicts = {verdict(linear), verdict(cells)}
    count, worse = int(mine["cells"].value), int(mine["cells_worse"].value)  # type: ignore[arg-type]

    if verdicts == {"better"}:
        text = f"{name} predicts better than {other}: its NMSE is {_gain(linear)} lower in the linear mean"
        text += f" and {_gain(cells)} lower in the mean over cells" if count > 1 else ""
    elif verdicts == {"worse"}:
        text = f"{name} predicts worse than {other}: its NMSE is {_gain(linear, -1)} higher in the linear mean"
        text += f" and {_gain(cells, -1)} higher in the mean over cells" if count > 1 else ""
    elif verdicts == {"level"}:
        text = f"{name} and {other} cannot be told apart: the NMSE gain is {_signed(linear)} in the linear mean"
        text += f" and {_signed(cells)} in the mean over cells" if count > 1 else ""
    else:
        text = (
            f"The two means do not agree on {name} against {other}: the NMSE gain is {_signed(linear)} in the linear "
            f"mean ({verdict(linear)}) and {_signed(cells)} in the mean over cells ({verdict(cells)})"
        )
    if count > 1:
        text += f"; {_cells(worse, count)}"
    return text + "." + _spectral_efficiency(mine, theirs, rows, bar)


def _spectral_efficiency(mine: dict[str, Figure], theirs: dict[str, Figure], rows: dict, bar: str) -> str:
    names = [name for name in mine if name.startswith("sum_se_k") and name.removeprefix("sum_se_k").isdigit()]
    if not names or names[0] not in theirs:
        return ""
    name = names[0]
    users, value, other = name.removeprefix("sum_se_k"), float(mine[name].value), float(theirs[name].value)  # type: ignore[arg-type]
    text = f" Sum spectral efficiency of {users} users: {value:.2f} bit/s/Hz against {other:.2f}"
    if f"{name}_gain" in mine:
        gain = mine[f"{name}_gain"]
        low, high = gain.interval or (gain.value, gain.value)
        text += f" ({float(gain.value):+.2f}, 95 % interval {low:+.2f} to {high:+.2f}: {verdict(gain)})"  # type: ignore[arg-type]
    if "perfect" in rows and name in rows["perfect"].figures:
        perfect = float(rows["perfect"].figures[name].value)
        text += f"; perfect CSI would give {perfect:.2f}"
    if "hold" in rows and bar != "hold" and name in rows["hold"].figures:
        text += f" and outdated CSI {float(rows['hold'].figures[name].value):.2f}"
    return text + "."


def _gain(gain: Figure, sign: int = 1) -> str:
    low, high = sorted((sign * gain.interval[0], sign * gain.interval[1])) if gain.interval else (0, 0)  # type: ignore[index,operator]
    interval = f" (95 % interval {low:.2f} to {high:.2f})" if gain.interval else ""
    return f"{sign * gain.value:.2f} dB{interval}"  # type: ignore[operator]


def _signed(gain: Figure) -> str:
    interval = f" (95 % interval {gain.interval[0]:+.2f} to {gain.interval[1]:+.2f})" if gain.interval else ""  # type: ignore[index]
    return f"{gain.value:+.2f} dB{interval}"


def _cells(worse: int, count: int) -> str:
    return f"in none of {count} cells is it clearly worse" if worse == 0 else f"in {worse} of {count} cells it is clearly worse"


def _bar_label(bar: str) -> str:
    return "the tuned AR" if bar == "ar" else look(bar).label
