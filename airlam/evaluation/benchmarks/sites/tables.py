"""Tables and explanations of the report on adaptation to a site."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.benchmarks.sites.config import SiteArguments
from airlam.evaluation.benchmarks.sites.one_site import TUNED, row_name
from airlam.evaluation.benchmarks.sites.record import SiteRecord
from airlam.evaluation.engine.contenders import OFF
from airlam.evaluation.engine.summarise import mean_rows
from airlam.evaluation.report.notes import NOTES
from airlam.evaluation.report.style import look
from airlam.evaluation.report.verdicts import verdict
from airlam.evaluation.rows import Figure, Results, Row
from airlam.io import recipe_hash

BAR = "ar"  # the method that gains are relative to


def notes(arguments: SiteArguments) -> list[str]:
    """What a reader must know of the figures."""
    return [
        NOTES["tags"],
        NOTES["nmse"],
        "Intervals: 95 %, bootstrap over blocks of neighbouring users of each site (squares as wide as the largest "
        "correlation distance of the scenario's large-scale parameters): they say what other users of these sites "
        "would see, and nothing about other sites. Differences are paired, on the same users and noise.",
        "Intervals of sum-SE resample groups. A group holds users of the whole site, so groups are not quite "
        "independent of each other, and these intervals are somewhat too narrow.",
        f"Adapted figures are means over {len(arguments.adaptation.seeds)} seeds (batches, which links are the share, "
        "random weights); with all links over one. Intervals do not hold the spread over seeds.",
        f"How to adapt and when to stop was chosen on {arguments.sizes.num_val} other users of the site, for both "
        "starts alike, so a few-shot row has seen more of the site than its 1 % of the links.",
        "The network from random weights is trained for the same few steps. It was not trained until it no longer "
        "improves, so these figures do not say what it could reach.",
        NOTES["sum_se"],
        NOTES["single"],
    ]


def not_run_row(record: SiteRecord, label: str) -> Row:
    """The row of a site that could not be run, with the reason."""
    data_hash, note = recipe_hash(record.recipe), f"not run: {record.not_run}"
    return Row(label, record.site, data_hash, group="not_run", note=note)


def ray_traced_gains(ran: list[SiteRecord], label: str, fraction: float) -> list[str]:
    """A sentence on the gain of the model as it is, and one of the adapted model, on the ray-traced sites."""
    traced = [c for record in ran if record.recipe["scenario"] == "ray_traced" for c in record.cells]
    sentences = []
    if traced:
        rows = {row.method: row for row in mean_rows(traced, BAR)}
        for method in (label, row_name(label, "adapted", fraction)):
            gain = rows[method].figures["gain_cells_db"]
            sentences.append(
                f"On the ray-traced sites {look(method).label} gains {signed(gain)} over the tuned AR "
                f"({verdict(gain)})."
            )
    return sentences


def compared(records: list[SiteRecord], arguments: SiteArguments, label: str) -> list[str]:
    """Paragraphs on what was compared: users, data, methods; and the sites that were left out."""
    sizes, adaptation = arguments.sizes, arguments.adaptation
    counts = zip(adaptation.fractions, arguments.counts(), strict=True)
    shares = ", ".join(f"{100 * fraction:g} % ({count})" for fraction, count in counts)
    not_run = [f"{record.site} was left out: {record.not_run}." for record in records if record.not_run]
    return [
        f"Each site has {sizes.num_train} users who may adapt a model, {sizes.num_val} who choose how and when to "
        f"stop, and {sizes.num_test} held-out users who judge, in {sizes.num_speed_classes} classes of speed. "
        "Statistical sites are one spatially consistent snapshot of TR 38.901; ray-traced ones are scenes of "
        "Sionna RT in which users walk and drive along straight tracks.",
        f"{sizes.history} measured CSI occasions at {arguments.conditions.csi_snr_db:g} dB are given, {sizes.horizon} "
        f"are predicted. {label} is adapted to {shares} of the site's links. The random start has the same shape, "
        f"links and numbers of steps ({', '.join(map(str, adaptation.steps))}, of {adaptation.batch_size} links). "
        f"Classical methods are tuned in each class on {sizes.num_tune} training users of like speed.",
        *not_run,
    ]


def site_table(results: Results, records: list[SiteRecord], arguments: SiteArguments, label: str) -> dict[str, Any]:
    """A line per site: the tuned classics, the model as it is, and adapted to the headline's share."""
    methods = [m for m in ("hold", *TUNED, label + OFF, label) if results.select(method=m)]
    shown = (
        row_name(label, "adapted", arguments.adaptation.headline_fraction),
        row_name(label, "adapted", arguments.adaptation.fractions[-1]),
    )
    methods += [m for m in dict.fromkeys(shown) if results.select(method=m)]
    lines = []
    for record in records:
        rows = {row.method: row.figures for row in results.select(group="site", data=record.site)}
        if not rows:
            lines.append([record.site, f"not run: {record.not_run}", *[""] * (len(methods) + 1)])
            continue
        cells = [f"{rows[m]['nmse_cells_db'].number:.2f}" for m in methods]
        gains = [signed(rows[m]["gain_cells_db"]) for m in (label, shown[0])]
        lines.append([record.site, *cells, *gains])
    return {
        "title": "Site by site: NMSE [dB]",
        "columns": ["data", *(look(m).label for m in methods), f"{label} over AR", "adapted over AR"],
        "lines": lines,
        "text": "Mean over classes of speed of dB; gains are paired, with 95 % intervals. Adapted over AR: with "
        f"{100 * arguments.adaptation.headline_fraction:g} % of the links.",
    }


def share_table(results: Results, ran: list[SiteRecord], arguments: SiteArguments, label: str) -> dict[str, Any]:
    """What adaptation and pretraining are worth with each share of the links."""
    lines = []
    for record in ran:
        rows = {row.method: row for row in results.select(group="site", data=record.site)}
        for fraction, count in zip(arguments.adaptation.fractions, arguments.counts(), strict=True):
            adapted, blank = (rows[row_name(label, kind, fraction)] for kind in ("adapted", "random-start"))
            training = record.training
            stops = [", ".join(map(str, training[row.method]["stopped_at"])) for row in (adapted, blank)]
            lines.append(
                [
                    record.site,
                    f"{100 * fraction:g} % ({count})",
                    f"{adapted.figures['nmse_cells_db'].number:.2f}",
                    f"{blank.figures['nmse_cells_db'].number:.2f}",
                    signed(adapted.figures["adaptation_gain_cells_db"]),
                    signed(adapted.figures["pretraining_gain_cells_db"]),
                    f"{training['adapted']['choice']}; {training['random-start']['choice']}",
                    f"{stops[0]}; {stops[1]}",
                ]
            )
    return {
        "title": "With how much of the site's data: NMSE [dB]",
        "columns": [
            "data",
            "links",
            "pretrained start",
            "random start",
            "adapted over zero-shot",
            "pretrained over random start",
            "adaptation (pretrained; random)",
            "stopped at step",
        ],
        "lines": lines,
        "text": "Both starts see the same links for the same number of steps; each stops where the validation "
        "users are served best (step 0: adaptation did not help).",
    }


def signed(gain: Figure) -> str:
    """A gain with its sign and interval, in dB."""
    low, high = gain.ends
    return f"{gain.number:+.2f}" + (f" ({low:+.2f} to {high:+.2f})" if gain.interval else "") + " dB"
