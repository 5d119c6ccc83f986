"""From the records of the benchmark of mechanisms to rows and tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from airlam.edge.federated.benchmark.figures import estimate
from airlam.edge.federated.server.record import RoundRecord
from airlam.edge.parallel.benchmark import costs, plans
from airlam.edge.parallel.benchmark.config import Mechanism
from airlam.edge.parallel.benchmark.costs import Bill
from airlam.edge.parallel.benchmark.proof import closed_form, difference
from airlam.edge.parallel.benchmark.reach import reach_rows, reach_table
from airlam.edge.parallel.benchmark.sentences import GROUP, NOTES, START_NAME, sentences
from airlam.edge.parallel.benchmark.study import START, Study
from airlam.edge.parallel.cost_model.energy import PHASES, grams
from airlam.evaluation.rows import Figure, Results, Row
from airlam.io import recipe_hash

DRAWN = ("data", "tensor", "pipeline")  # modes whose timelines are drawn


def build_results(title: str, config: dict[str, Any], study: Study) -> Results:
    """Everything the report is made of."""
    results = Results(title, "parallel", config=config, recipes={"workload": study.benchmark.federation.config})
    start = errors_of(study.records(START))
    if (row := make_row(START_NAME, None, study, start)) is not None:
        results.rows.append(row)
    timelines: dict[str, Any] = {}
    for name, mechanism in study.benchmark.kinds.items():
        row = make_row(name, mechanism, study, start)
        if row is None:
            continue
        bill = bill_of(name, study)
        charge(row, bill, study)
        prove(row, study)
        results.rows.append(row)
        if mechanism.kind == "collaborative" and mechanism.mode in DRAWN and mechanism.mode not in timelines:
            timelines[mechanism.mode] = {
                "name": name,
                "devices": bill.devices,
                "seconds": bill.span,
                "spans": [[s.rank, s.phase, s.start, s.stop] for s in bill.trace],
            }
    against(results, study)
    results.rows += reach_rows(study)
    f = study.benchmark.federation
    results.extras = {
        "focus": "",
        "timelines": timelines,
        "resampled": "users",
        "tables": [make(results) for make in (main_table, energy_table, plan_table, proof_table, reach_table)],
        "compared": [
            f"{len(study.pool)} devices own {study.workload.sites[0].train.h.shape[0]} training users each, of places "
            f"of their own: {', '.join(described(study))}. {f.num_test} other users of each test.",
            f"Every mechanism sees {study.workload.samples} links: {study.workload.steps} steps of {f.batch_size} "
            f"links, or {f.rounds} rounds of {f.local_steps} local steps of {f.batch_size} links on each device. "
            "AdamW, gradients clipped to norm 1, from the weights of "
            f"{f.label} ({start_size(results):,} weights).",
        ],
    }
    results.headline, results.extras["details"] = sentences(results)
    results.notes = list(NOTES)
    return results


def described(study: Study) -> list[str]:
    """Owners, with the profile of each device."""
    return [f"{member.name} ({member.device.name})" for member in study.pool.members]


def start_size(results: Results) -> int:
    """Weights of the model."""
    return results.rows[0].parameters_total if results.rows else 0


def errors_of(records: Sequence[dict[str, Any]]) -> np.ndarray | None:
    """dB of every held-out user, mean over seeds; None: nothing was run."""
    if not records:
        return None
    return np.mean([np.concatenate([r["errors"][owner] for owner in r["errors"]]) for r in records], 0)


def make_row(name: str, mechanism: Mechanism | None, study: Study, start: np.ndarray | None) -> Row | None:
    """What a mechanism's model became; None: it has not been trained."""
    records = study.records(START if mechanism is None else study.jobs[name])
    errors, f = errors_of(records), study.benchmark.federation
    if errors is None:
        return None
    row = Row(
        name,
        "owners",
        recipe_hash(f.config),
        None,
        f.csi_snr_db,
        f.history,
        f.horizon,
        records[0]["total"],
        records[0]["trained"],
        settings={} if mechanism is None else {"kind": mechanism.kind, "mode": mechanism.mode},
        num_links=len(errors),
        num_drops=len(study.workload.owners),
        seeds={f"training {n}": r["seed"] for n, r in enumerate(records)},
        group=GROUP,
    )
    row.figures["nmse_cells_db"] = estimate([errors], lambda e: e, "dB")
    if start is not None and mechanism is not None:
        row.figures["gain_db"] = estimate([start, errors], lambda s, e: s - e, "dB")
    if len(records) > 1:
        means = [float(np.mean(np.concatenate(list(r["errors"].values())))) for r in records]
        seeds = [float(r["seed"]) for r in records]
        row.figures["nmse_by_seed_db"] = Figure(means, "dB", "measured", axis=seeds, axis_name="training seed")
    return row


def bill_of(name: str, study: Study) -> Bill:
    """What a mechanism costs."""
    mechanism, f, sizes = study.benchmark.kinds[name], study.benchmark.federation, study.workload.raw_bytes
    whole, owners, steps = study.whole, range(len(study.pool)), study.workload.steps
    profile = study.profile_for(mechanism)
    if (plan := study.plan(name)) is not None:
        return costs.stepped(plan, profile, study.pool, plans.moves_of(plan, sizes), steps)
    if mechanism.kind in ("cloud", "one device"):
        target = len(study.pool) if mechanism.kind == "cloud" else study.best
        own = mechanism.kind == "one device" and mechanism.data == "own"
        moves = [] if own else plans.moves_to(target, owners, sizes)
        return costs.stepped(plans.alone(profile, target, f.batch_size), profile, whole, moves, steps)
    records = study.records(study.jobs[name])
    rounds = [RoundRecord.from_dict(r) for r in records[0]["rounds"]]
    if mechanism.lora_rank is not None:
        profile = costs.with_adapters(profile, records[0]["trained"])
    billed = costs.split if mechanism.kind == "split" else costs.federated
    return billed(rounds, profile, whole, f.batch_size, f.local_steps)


def charge(row: Row, bill: Bill, study: Study) -> None:
    """Costs as figures of a row."""
    f, kind = row.figures, row.settings["kind"]
    exact = kind in ("cloud", "one device", "federated", "split")
    f["seconds"] = Figure(bill.seconds, "s", "modelled")
    f["prepare_seconds"] = Figure(bill.prepare, "s", "modelled")
    f["step_seconds"] = Figure(bill.span, "s", "modelled")
    f["joules"] = Figure(bill.total_joules, "J", "modelled")
    for phase in PHASES:
        f[f"joules_{phase}"] = Figure(bill.joules[phase], "J", "modelled")
    f["joules_per_link"] = Figure(bill.total_joules / study.workload.samples, "J", "modelled")
    f["grams"] = Figure(grams(bill.total_joules, study.pool.grid_intensity), "g", "modelled")
    f["link_mb"] = Figure(bill.link_bytes / 1e6, "MB", "measured" if exact else "modelled")
    f["raw_mb"] = Figure(bill.raw_bytes / 1e6, "MB", "measured")
    if bill.memory:
        f["memory_mb"] = Figure(bill.memory / 1e6, "MB", "modelled")
    if bill.lacking:
        row.note = f"lacks {bill.lacking / 1e6:.0f} MB of memory on a device"
    plan = study.plan(row.method)
    row.settings["plan"] = "" if plan is None else plan.describe()
    row.settings["devices"] = bill.devices


def prove(row: Row, study: Study) -> None:
    """What real processes showed: differences to one process, and bytes at the collectives."""
    record, plan = study.proof(row.method), study.plan(row.method)
    if record is None or plan is None:
        return
    reference, f = study.records(study.jobs[row.method])[0], row.figures
    profile = study.profile_for(study.benchmark.kinds[row.method])
    f["difference"] = Figure(difference(record, reference), "1", "measured")
    f["norm_difference"] = Figure(difference(record, reference, "norms"), "1", "measured")
    handed = [sum(kinds.values()) for kinds in record["bytes"]]
    predicted = closed_form(plan, profile, study.pool, study.frozen)
    f["handed_mb"] = Figure(max(handed) / 1e6, "MB", "measured")
    f["handed_all_mb"] = Figure(sum(handed) / 1e6, "MB", "measured")
    off = max(abs(a - b) for a, b in zip(handed, predicted, strict=True))
    f["bytes_off"] = Figure(float(round(off)), "B", "measured", note="measured less the closed form, the worst rank")
    row.settings["processes"], row.settings["steps"] = len(handed), len(record["losses"])
    row.settings["equal"] = f["difference"].number <= study.benchmark.proof.tolerance


def against(results: Results, study: Study) -> None:
    """Paired differences to the model that is trained on all data in one place."""
    kinds = study.benchmark.kinds
    bar = next((name for name, one in kinds.items() if one.kind == "cloud"), None)
    best = None if bar is None else errors_of(study.records(study.jobs[bar]))
    if best is None:
        return
    for row in results.select(group=GROUP):
        errors = errors_of(study.records(START if row.method == START_NAME else study.jobs[row.method]))
        if errors is not None:
            row.figures["above_cloud_db"] = estimate([errors, best], lambda e, b: e - b, "dB")


def text(row: Row, name: str, style: str) -> str:
    """A figure with its interval."""
    figure = row.figures.get(name)
    if figure is None:
        return ""
    value = f"{figure.number:{style}}"
    if figure.interval is None:
        return value
    return f"{value} ({figure.ends[0]:{style}} to {figure.ends[1]:{style}})"


def table(title: str, columns: Sequence[tuple[str, str, str]], rows: Sequence[Row], words: str) -> dict[str, Any]:
    """A table of figures: columns are (heading, name of the figure, format)."""
    lines = [[row.method, *(text(row, name, style) for _, name, style in columns)] for row in rows]
    return {"title": title, "columns": ["mechanism", *(c[0] for c in columns)], "lines": lines, "text": words}


def main_table(results: Results) -> dict[str, Any]:
    """What each mechanism reached, and what it cost."""
    columns = [
        ("NMSE [dB]", "nmse_cells_db", ".2f"),
        ("to cloud [dB]", "above_cloud_db", "+.2f"),
        ("time [s], modelled", "seconds", ".0f"),
        ("energy [J], modelled", "joules", ",.0f"),
        ("gCO2e, modelled", "grams", ".2f"),
        ("MB over links", "link_mb", ",.0f"),
        ("raw MB that leave owners", "raw_mb", ",.0f"),
    ]
    words = (
        "NMSE: mean over held-out users of all owners and training seeds, 95 % interval over users; to cloud: paired, "
        "positive is worse. MB over links: counted for cloud, one device, federated and split; of collaborative "
        "mechanisms their rings' share of what was counted at the collectives of real processes."
    )
    return table("One workload, five mechanisms", columns, results.select(group=GROUP), words)


def energy_table(results: Results) -> dict[str, Any]:
    """Joules by phase."""
    columns = [
        ("compute [J]", "joules_compute", ",.0f"),
        ("send [J]", "joules_send", ",.0f"),
        ("wait [J]", "joules_wait", ",.0f"),
        ("J a link", "joules_per_link", ".2f"),
        ("moving raw data [s]", "prepare_seconds", ".1f"),
        ("step or round [s]", "step_seconds", ".3f"),
        ("fullest device [MB]", "memory_mb", ".0f"),
    ]
    words = "Modelled. A step of what trains one model, a step of split training, a round of federated training."
    rows = [row for row in results.select(group=GROUP) if "joules" in row.figures]
    return table("Energy by phase", columns, rows, words)


def plan_table(results: Results) -> dict[str, Any]:
    """Who does what in each collaborative mechanism."""
    rows = [row for row in results.select(group=GROUP) if row.settings.get("plan")]
    lines = [[r.method, r.settings["plan"], ", ".join(r.settings["devices"]), r.note] for r in rows]
    return {"title": "Plans", "columns": ["mechanism", "plan", "devices, in the order of ranks", ""], "lines": lines}


def proof_table(results: Results) -> dict[str, Any]:
    """Real processes against one process."""
    lines = []
    for row in results.select(group=GROUP):
        if "difference" not in row.figures:
            continue
        f, s = row.figures, row.settings
        same = "yes" if s["equal"] else "no"
        off = f["bytes_off"].number
        exact = "to the byte" if off == 0 else f"{off:,.0f} bytes off"
        handed = [text(row, name, ".2f") for name in ("handed_mb", "handed_all_mb")]
        off_by = [f"{f[name].number:.1e}" for name in ("difference", "norm_difference")]
        lines.append([row.method, str(s["processes"]), str(s["steps"]), *off_by, same, *handed, exact])
    columns = [
        "mechanism",
        "processes",
        "steps",
        "losses differ by",
        "norms of the gradient by",
        "equal to one process",
    ]
    columns += ["MB a step, the busiest rank", "MB a step, all ranks", "closed form"]
    words = (
        "Measured: real gloo processes take the first steps on the workload's own batches; relative differences to one "
        "process, the largest of all steps, equal by the losses; bytes handed to collectives in a step. Where a rank "
        "has an odd number of links, the classical start of its tokens, a regression in single precision, is rounded "
        "differently: it shows in the norms."
    )
    return {"title": "Real processes", "columns": columns, "lines": lines, "text": words}
