"""The headline, the conclusions and the notes of the benchmark of mechanisms; all figures come from its rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from airlam.evaluation.rows import Results, Row

GROUP, REACH, START_NAME = "mechanism", "reach", "before training"
NOTES = (
    "Measured: NMSE (real training on this host), equality of collaborative steps with one process and the bytes at "
    "their collectives (real processes), bytes of federated and split training (the engine's messages), raw data "
    "(sizes of the CSI in single precision).",
    "Modelled: seconds and joules, from counted operations, the devices' profiles and the pool's links, by simulating "
    "the events of a step or a round; seconds on this host are in no figure.",
    "Collaborative mechanisms that train the same model differ in who computes what, not in the result: one of them is "
    "trained to the end, in one process, and stands for all; real processes of each take the first steps and are "
    "compared. Looping fewer layers is another model, trained by itself, "
    "from the first layers of the same weights.",
    "Raw data moves once, before training: a device that needs any link of an owner gets all of that owner's. Ranks of "
    "sequence, tensor and looped modes read all links of their replica; of a pipeline, the first and the last stage.",
    "A device that takes part draws idle power to the end; those that do not are not counted. The server serves others "
    "too: its idle power counts only while it computes.",
    "Adapters: half of the backward operations of layers are not computed. Split training computes its backbone on the "
    "server for all devices at once.",
    "Learning rates are the recipe's, one for each kind of training; none was tuned on the held-out users.",
)


def sentences(results: Results) -> tuple[str, list[str]]:
    """Headline and conclusions."""
    rows = [row for row in results.select(group=GROUP) if "seconds" in row.figures and not row.note]
    if len(rows) < 2:
        return "Fewer than two mechanisms have been run.", []
    quick, thrifty = least(rows, "seconds"), least(rows, "joules")
    headline = (
        f"Fastest: {quick.method} ({value(quick, 'seconds', 's')}); least energy: {thrifty.method} "
        f"({value(thrifty, 'joules', 'J')}); lowest NMSE: {accurate(rows)}."
    )
    details = [sentence for make in CONCLUSIONS if (sentence := make(rows))]
    return headline, [*details, *([pays] if (pays := reach(results.select(group=REACH))) else [])]


def least(rows: Sequence[Row], name: str) -> Row:
    """The row with the least of a figure; the first of several."""
    return min(rows, key=lambda row: row.figures[name].number)


def accurate(rows: Sequence[Row]) -> str:
    """The mechanism with the lowest NMSE: that of all data in one place, unless one is better beyond its interval."""
    best, bars = least(rows, "nmse_cells_db"), of_kind(rows, "cloud")
    text = f"{best.method} ({best.figures['nmse_cells_db'].number:.2f} dB)"
    off = best.figures.get("above_cloud_db")
    if not bars or off is None or off.ends[1] < 0 or best is bars[0]:
        return text
    bar = bars[0]
    return f"{bar.method} ({bar.figures['nmse_cells_db'].number:.2f} dB), from which {text} does not differ"


def value(row: Row, name: str, unit: str) -> str:
    """A figure in words."""
    return f"{row.figures[name].number:,.0f} {unit}"


def names(rows: Sequence[Row]) -> str:
    """Of mechanisms, in quotes, since some hold a comma."""
    return ", ".join(f"'{row.method}'" for row in rows)


def of_kind(rows: Sequence[Row], *kinds: str) -> list[Row]:
    """Rows of some kinds of mechanism."""
    return [row for row in rows if row.settings["kind"] in kinds]


def private(rows: Sequence[Row]) -> str:
    """What keeps raw data at its owner costs in NMSE, and saves or costs in time."""
    kept = [r for r in rows if r.figures["raw_mb"].number == 0 and r.settings["kind"] != "one device"]
    if not kept:
        return ""
    quick, thrifty, best = least(kept, "seconds"), least(kept, "joules"), least(kept, "nmse_cells_db")
    return (
        f"No raw data leaves its owner in {len(kept)} of {len(rows)} mechanisms "
        f"({names(kept)}); of these {quick.method} is fastest "
        f"({value(quick, 'seconds', 's')}), {thrifty.method} draws least "
        f"({value(thrifty, 'joules', 'J')}), {best.method} has the lowest NMSE "
        f"({best.figures['nmse_cells_db'].number:.2f} dB)."
    )


def alone(rows: Sequence[Row]) -> str:
    """Whether several devices are faster than the best one."""
    ones = [r for r in of_kind(rows, "one device") if r.figures["raw_mb"].number > 0]
    many = of_kind(rows, "collaborative", "planned")
    if not ones or not many:
        return ""
    many = [row for row in many if len(row.settings["devices"]) > 1]
    if not many:
        return ""
    one, quick = ones[0], least(many, "seconds")
    ratio = one.figures["seconds"].number / quick.figures["seconds"].number
    slower = [r for r in many if r.figures["seconds"].number > one.figures["seconds"].number]
    if len(slower) == len(many):
        return (
            f"No collaborative mechanism is as fast as the best device with all data ({value(one, 'seconds', 's')}); "
            f"{quick.method} takes {1 / ratio:.1f} times as long."
        )
    end = f"; slower than it: {names(slower)}" if slower else ""
    return f"{quick.method} is {ratio:.2f} times as fast as the best device with all data{end}."


def own_data(rows: Sequence[Row]) -> str:
    """What data of others is worth."""
    ones = [r for r in of_kind(rows, "one device") if r.figures["raw_mb"].number == 0]
    if not ones or "above_cloud_db" not in ones[0].figures:
        return ""
    f = ones[0].figures["above_cloud_db"]
    low, high = f.ends
    return (
        f"Trained on its own data alone, the best device's model is {f.number:+.2f} dB ({low:+.2f} to {high:+.2f}) "
        "from that trained on everybody's, on the held-out users of all owners."
    )


def federated(rows: Sequence[Row]) -> str:
    """Federated and split training against all data in one place."""
    found = [r for r in of_kind(rows, "federated", "split") if "above_cloud_db" in r.figures]
    words = []
    for row in found:
        low, high = row.figures["above_cloud_db"].ends
        number = row.figures["above_cloud_db"].number
        words.append(f"{row.method} {number:+.2f} dB ({low:+.2f} to {high:+.2f}), {value(row, 'link_mb', 'MB')}")
    return f"To all data in one place: {'; '.join(words)}." if words else ""


def bytes_of(rows: Sequence[Row]) -> str:
    """The range of bytes over the links."""
    found = [r for r in rows if r.figures["link_mb"].number > 0]
    if len(found) < 2:
        return ""
    low, high = least(found, "link_mb"), max(found, key=lambda row: row.figures["link_mb"].number)
    return (
        f"Of those that send anything, {low.method} sends least over the links ({value(low, 'link_mb', 'MB')}), "
        f"{high.method} most ({value(high, 'link_mb', 'MB')})."
    )


def waiting(rows: Sequence[Row]) -> str:
    """Where the energy goes in collaborative training."""
    found = of_kind(rows, "collaborative", "planned")
    if not found:
        return ""

    def share(row: Row) -> float:
        return 100 * row.figures["joules_wait"].number / row.figures["joules"].number

    low, high = min(found, key=share), max(found, key=share)
    return (
        f"Waiting takes {share(low):.0f} % ({low.method}) to {share(high):.0f} % ({high.method}) of the energy of "
        "collaborative mechanisms."
    )


def reach(rows: Sequence[Row]) -> str:
    """For which models and batches several devices are faster than the best one."""
    words = []
    for place in dict.fromkeys(row.data for row in rows):
        here = [row for row in rows if row.data == place and not row.note]
        one = [row for row in here if row.settings["plan"] == "one device"]
        many = [row for row in here if row.settings["plan"] != "one device"]
        if many and one:
            quick = least(many, "step_seconds")
            ratio = one[0].figures["step_seconds"].number / quick.figures["step_seconds"].number
            words.append(f"{place}: {quick.method} {ratio:.2f}")
        elif many:
            words.append(f"{place}: {least(many, 'step_seconds').method}, no device holds it alone")
    return f"Speed of the fastest mode over the best device alone, a step: {'; '.join(words)}." if words else ""


def pareto(rows: Sequence[Row]) -> str:
    """Mechanisms that no other beats in both time and energy."""
    return f"None is both faster and thriftier than: {names(front(rows))}."


def front(rows: Sequence[Row]) -> list[Row]:
    """Rows that no other one beats in time and energy, from the fastest on."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda r: (r.figures["seconds"].number, r.figures["joules"].number)):
        if not found or row.figures["joules"].number < found[-1].figures["joules"].number:
            found.append(row)
    return found


def proven(rows: Sequence[Row]) -> str:
    """Whether real processes took the same steps as one."""
    tried = [row for row in rows if "difference" in row.figures]
    if not tried:
        return ""
    equal = [row for row in tried if row.settings["equal"]]
    exact = [row for row in tried if row.figures["bytes_off"].number == 0]
    worst = max(row.figures["difference"].number for row in tried)
    return (
        f"Real processes of {len(equal)} of {len(tried)} collaborative mechanisms take the steps of one process "
        f"(largest relative difference {worst:.0e}); bytes equal the closed form to the byte in {len(exact)}."
    )


CONCLUSIONS: tuple[Callable[[Sequence[Row]], str], ...] = (
    private,
    alone,
    own_data,
    federated,
    bytes_of,
    waiting,
    pareto,
    proven,
)
