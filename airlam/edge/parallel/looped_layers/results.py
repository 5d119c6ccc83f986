"""From the records of the benchmark of looped layers to rows, tables, sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from airlam.edge.parallel.looped_layers.config import Variant
from airlam.edge.parallel.looped_layers.costs import Costs
from airlam.evaluation.engine import statistics
from airlam.evaluation.report.verdicts import NO_VERDICT, verdict
from airlam.evaluation.rows import Figure, Results, Row

GROUP, PAIRS = "variant", "comparison"
PARAMETERS, DEPTH = "equal parameters", "equal depth"
SPLIT = "seeds disagree"


def pairs(kinds: dict[str, Variant]) -> list[tuple[str, str, str]]:
    """What is compared: (looped variant, rival, what is equal). A rival runs its layers once.

    Example:
        >>> pairs({"4": Variant(4), "8": Variant(8), "4 x 2": Variant(4, 2)})
        [('4 x 2', '4', 'equal parameters'), ('4 x 2', '8', 'equal depth')]
    """
    found = []
    for name, variant in kinds.items():
        for rival, other in kinds.items():
            if variant.loops > 1 and other.loops == 1:
                if variant.layers == other.layers:
                    found.append((name, rival, PARAMETERS))
                if variant.depth == other.depth:
                    found.append((name, rival, DEPTH))
    return sorted(found, key=lambda pair: pair[2] == DEPTH)


def decibels(records: list[dict[str, Any]], key: str = "nmse") -> Tensor:
    """dB of the NMSE of every run and link ``[seed, link]``."""
    return 10 * torch.tensor([r[key] for r in records], dtype=torch.float64).log10()


def draws(num_links: int, links_per_draw: int) -> Tensor:
    """The draw of every test link ``[link]``: one scenario, carrier, band and array each."""
    return torch.arange(num_links) // links_per_draw


def make_row(
    name: str,
    variant: Variant,
    records: list[dict[str, Any]],
    sizes: Any,
    costs: Sequence[Costs],
    context: dict[str, str],
) -> Row:
    """One variant: what it reached, and what it costs."""
    nmse = torch.tensor([r["nmse"] for r in records], dtype=torch.float64).mean(0)
    draw = draws(len(nmse), sizes.links_per_draw)
    row = Row(
        name,
        context["data"],
        context["hash"],
        history=sizes.history,
        horizon=sizes.horizon,
        parameters_total=records[0]["parameters"],
        parameters_trainable=records[0]["trained"],
        settings={"layers": variant.layers, "loops": variant.loops, "depth": variant.depth},
        seeds={f"training {n}": r["seed"] for n, r in enumerate(records)},
        num_links=len(nmse),
        num_drops=int(draw[-1]) + 1,
        group=GROUP,
    )
    f = row.figures
    error, start = decibels(records), decibels(records, "start")
    f["nmse_linear_db"] = statistics.db_figure(nmse, draw)
    f["nmse_mean_db"] = statistics.mean_figure(error.mean(0), draw, "dB")
    f["gain_start_db"] = statistics.gain(start.mean(0), error.mean(0), draw, "dB")
    seeds = [float(r["seed"]) for r in records]
    f["nmse_by_seed_db"] = Figure(error.mean(1).tolist(), "dB", "measured", axis=seeds, axis_name="training seed")
    for key in ("steps", "links", "cpu_minutes"):
        f[key] = Figure(_mean([r[key] for r in records]), "min" if key == "cpu_minutes" else "1", "measured")
    looks = min(len(r["curve"]) for r in records)
    if looks:
        minutes, values = (torch.tensor([r["curve"][:looks] for r in records]).mean(0)[:, n].tolist() for n in (0, 1))
        f["curve"] = Figure(values, "dB", "measured", axis=minutes, axis_name="CPU minutes of model work")
    for each in costs:
        n = each.devices
        f[f"memory_mb_{n}"] = Figure(each.memory_bytes / 1e6, "MB", "modelled")
        f[f"states_mb_{n}"] = Figure(each.state_bytes / 1e6, "MB", "modelled")
        f[f"sent_mb_{n}"] = Figure(each.payload_bytes / 1e6, "MB", "modelled")
        f[f"server_mb_{n}"] = Figure(each.server_bytes / 1e6, "MB", "modelled")
    return row


def compare(
    name: str, rival: str, what: str, mine: list[dict], theirs: list[dict], sizes: Any, context: dict[str, str]
) -> Row:
    """A looped variant against a rival, on the same links, seed by seed; positive: the looped one is better."""
    common = sorted({r["seed"] for r in mine} & {r["seed"] for r in theirs})
    mine, theirs = ([r for seed in common for r in side if r["seed"] == seed] for side in (mine, theirs))
    gain = decibels(theirs) - decibels(mine)  # [seed, link]
    draw = draws(gain.shape[1], sizes.links_per_draw)
    row = Row(
        name,
        context["data"],
        context["hash"],
        history=sizes.history,
        horizon=sizes.horizon,
        settings={"against": rival, "equal": what},
        seeds={f"training {n}": seed for n, seed in enumerate(common)},
        num_links=gain.shape[1],
        num_drops=int(draw[-1]) + 1,
        group=PAIRS,
    )
    row.figures["gain_db"] = statistics.mean_figure(gain.mean(0), draw, "dB")
    linear = [torch.tensor([r["nmse"] for r in side], dtype=torch.float64).mean(0) for side in (mine, theirs)]
    row.figures["gain_linear_db"] = statistics.gain_db(linear[0], linear[1], draw)
    row.figures["gain_by_seed_db"] = Figure(
        gain.mean(1).tolist(), "dB", "measured", axis=[float(s) for s in common], axis_name="training seed"
    )
    return row


def judged(row: Row) -> str:
    """The verdict on a comparison. "better" and "worse" take two training seeds at least, and all of them to agree."""
    word, seeds = verdict(row.figures["gain_db"]), row.figures["gain_by_seed_db"].value
    assert isinstance(seeds, list)
    if len(seeds) < 2:
        return NO_VERDICT
    if word in ("better", "worse") and not all((gain > 0) == (word == "better") for gain in seeds):
        return SPLIT
    return word


def build_results(
    title: str,
    kinds: dict[str, Variant],
    records: dict[str, list[dict[str, Any]]],
    costs: dict[str, list[Costs]],
    sizes: Any,
    context: dict[str, str],
) -> Results:
    """Everything the report is made of.

    Args:
        records: variant -> the records of its seeds. costs: variant -> of each size of pool.
        context: ``data`` and ``hash`` of the data set, ``minutes`` of training, ``batch`` of links.
    """
    results = Results(title, "looped_layers")
    for name, runs in records.items():
        results.rows.append(make_row(name, kinds[name], runs, sizes, costs[name], context))
    there = {name: kinds[name] for name in records}
    compared = [compare(a, b, what, records[a], records[b], sizes, context) for a, b, what in pairs(there)]
    results.rows += compared
    results.extras = {
        "resampled": "draws",
        "tables": [reached_table(results), pair_table(results), cost_table(results)],
        "compared": [
            f"Every variant is pretrained from random weights for {context['minutes']} CPU minutes of model work, "
            f"in batches of {context['batch']} links, on the same stream of links for the same seed. No training link "
            "is seen twice. The learning rate falls with the CPU time that is spent; its peak is the same for all.",
            f"Judged on {results.rows[0].num_links} links of other draws of the same mixture; {sizes.history} slots "
            f"are seen, {sizes.horizon} predicted.",
        ],
    }
    results.headline = headline(compared)
    results.extras["details"] = [sentence(row) for row in compared]
    results.notes = [
        "NMSE is measured; bytes and memory are modelled: closed forms, and the tensors that autograd keeps of one "
        "device's part (single precision, eager attention), without the collectives' buffers.",
        "Intervals: 95 %, bootstrap over draws of scenario, band and array, paired; dB of several training seeds are "
        "averaged first. They leave out the spread between seeds: a verdict "
        "also takes two seeds at least, and the same sign in all.",
    ]
    return results


def reached_table(results: Results) -> dict[str, Any]:
    """What each variant reached in its CPU time."""
    lines = []
    for row in results.select(group=GROUP):
        f, s = row.figures, row.settings
        by_seed = f["nmse_by_seed_db"].value
        assert isinstance(by_seed, list)
        lines.append(
            [
                row.method,
                f"{row.parameters_trainable:,}",
                s["depth"],
                f"{f['steps'].number:.0f}",
                f"{f['links'].number:,.0f}",
                _text(f["nmse_mean_db"], ".2f"),
                ", ".join(f"{value:.2f}" for value in by_seed),
                _text(f["gain_start_db"], "+.2f"),
                _text(f["nmse_linear_db"], ".2f"),
            ]
        )
    columns = ["variant", "parameters", "depth", "steps", "links seen", "NMSE [dB], mean of dB", "seed by seed"]
    columns += ["gain over the classical start [dB]", "NMSE [dB], linear mean"]
    return {"title": "At equal CPU time", "columns": columns, "lines": lines}


def pair_table(results: Results) -> dict[str, Any]:
    """Looped variants against layers that are run through once."""
    lines = []
    for row in results.select(group=PAIRS):
        f, by_seed = row.figures, row.figures["gain_by_seed_db"].value
        assert isinstance(by_seed, list)
        seeds = ", ".join(f"{value:+.2f}" for value in by_seed)
        texts = [_text(f["gain_db"], "+.2f"), seeds, _text(f["gain_linear_db"], "+.2f"), judged(row)]
        lines.append([row.method, row.settings["against"], row.settings["equal"], *texts])
    columns = [
        "looped",
        "against",
        "equal",
        "gain [dB], mean of dB",
        "seed by seed",
        "gain [dB], linear mean",
        "looping is",
    ]
    text = "Positive: the looped variant has the lower NMSE."
    return {"title": "Looped against run once", "columns": columns, "lines": lines, "text": text}


def cost_table(results: Results) -> dict[str, Any]:
    """What a training step takes of a device, against the size of the pool."""
    rows = results.select(group=GROUP)
    pools = [int(name.rsplit("_", 1)[1]) for name in rows[0].figures if name.startswith("memory_mb_")]
    columns = ["variant"]
    for n in pools:
        columns.append(f"{n} device{'s' * (n > 1)}: memory of each [MB]")
        columns += [f"{n} devices: handed over by each [MB]", f"{n} devices: busiest link [MB]"] if n > 1 else []
    lines = []
    for row in rows:
        line = [row.method]
        for n in pools:
            states, memory = row.figures[f"states_mb_{n}"].number, row.figures[f"memory_mb_{n}"].number
            line.append(f"{memory:.0f} ({states:.1f})")
            line += [f"{row.figures[f'{key}_mb_{n}'].number:.1f}" for key in ("sent", "server") if n > 1]
        lines.append(line)
    text = (
        "Modelled, one training step: heads, hidden units and inputs are shared out equally, every sum goes to the "
        "first device and back. In brackets: weights, gradients and moments alone; the rest is what autograd keeps. "
        "Bytes depend on the depth alone: layers that are run once send as much."
    )
    return {"title": "What a step costs a pool", "columns": columns, "lines": lines, "text": text}


def sentence(row: Row) -> str:
    """A comparison in words."""
    gain, against = row.figures["gain_db"], row.settings["against"]
    return f"{row.method} against {against} ({row.settings['equal']}): {_text(gain, '+.2f')} dB, {judged(row)}."


def headline(compared: list[Row]) -> str:
    """Whether looping wins, at equal parameters and at equal depth."""
    words = []
    for what in (PARAMETERS, DEPTH):
        here = [row for row in compared if row.settings["equal"] == what]
        if here:
            gains = (f"{row.method} {row.figures['gain_db'].number:+.2f} dB ({judged(row)})" for row in here)
            words.append(f"against layers run once, at {what}: {', '.join(gains)}")
    if not words:
        return "Nothing to compare yet: no variant is looped, or no rival was run."
    return f"Looped layers after equal CPU time, {'; '.join(words)}."


def _text(figure: Figure, style: str) -> str:
    value = f"{figure.number:{style}}"
    return value if figure.interval is None else f"{value} ({figure.ends[0]:{style}} to {figure.ends[1]:{style}})"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
