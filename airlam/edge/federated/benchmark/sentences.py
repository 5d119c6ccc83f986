"""The headline and the sentences of the federated benchmark's report."""

from __future__ import annotations

from airlam.evaluation.rows import Results, Row

ZERO, CENTRAL, FOCUS, FULL = "zero-shot", "centralised", "federated", "full model, FedAvg"


def sentences(results: Results) -> tuple[str, list[str]]:
    """Headline and what was promised, with whether it holds."""
    rows = {row.method: row for row in results.select(group="methods")}
    if FOCUS not in rows or "recovered" not in rows[FOCUS].figures:
        return "The studies that the headline needs have not been run yet.", []
    focus, full = rows[FOCUS], rows.get(FULL)
    share, gain = focus.figures["recovered"], focus.figures["gain_db"]
    headline = (
        f"Federated adapters gain {gain.number:.2f} dB over the model before training, {100 * share.number:.0f} % of "
        f"what centralised training gains ({rows[CENTRAL].figures['gain_db'].number:.2f} dB), with "
        f"{focus.figures['megabytes'].number:.1f} MB over all links."
    )
    details = [
        f"Share of the centralised gain: {100 * share.number:.0f} % ({100 * share.ends[0]:.0f} to "
        f"{100 * share.ends[1]:.0f} %); the aim was 80 %."
    ]
    for row in (focus, rows[CENTRAL]):
        by_seed = row.figures.get("gain_by_seed_db")
        if by_seed is not None:
            gains = ", ".join(f"{value:.2f}" for value in by_seed.value)  # type: ignore[union-attr]
            details.append(f"Gain of '{row.method}', training seed by training seed: {gains} dB.")
    if full is not None:
        target = float(focus.figures["curve_rounds"].value[-1])  # type: ignore[index]
        mine, theirs = megabytes_to_reach(focus, target), megabytes_to_reach(full, target)
        spent = full.figures["megabytes"].number
        if theirs is not None:
            text = f"FedAvg of the whole model reaches the same validation NMSE ({target:.2f} dB) with {theirs:.0f} MB"
            needed = 100 * (mine or 0) / theirs
            details.append(f"{text}: adapters need {needed:.1f} % of that; the aim was at most 10 %.")
        else:
            text = f"FedAvg of the whole model does not reach the same validation NMSE ({target:.2f} dB) in its rounds"
            details.append(f"{text} ({spent:.0f} MB): adapters need less than {100 * (mine or 0) / spent:.1f} %.")
    for group, name, against, limit in (
        ("robustness", "30 % lost", "nobody lost", 0.3),
        ("robustness", "2 of 10 poisoned, trimmed mean", "ten clients", 0.5),
        ("robustness", "2 of 10 poisoned, multi-Krum", "ten clients", 0.5),
        ("robustness", "2 of 10 poisoned, mean", "ten clients", None),
    ):
        here = {row.method: row for row in results.select(group=group)}
        if name in here and against in here:
            off = here[name].figures["nmse_cells_db"].number - here[against].figures["nmse_cells_db"].number
            asked = "the failure without a defence" if limit is None else f"the aim was at most {limit} dB"
            details.append(f"{name}: {off:+.2f} dB against '{against}' ({asked}).")
    return headline, details


def megabytes_to_reach(row: Row, target: float) -> float | None:
    """Bytes until the validation curve first is at ``target`` or below; None if it never is."""
    figure = row.figures.get("curve_megabytes")
    if figure is None:
        return None
    for value, spent in zip(figure.value, figure.axis, strict=True):  # type: ignore[arg-type]
        if value <= target:
            return float(spent)
    return None
