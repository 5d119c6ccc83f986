"""From what the parts measured to rows, tables and sentences."""

from __future__ import annotations

from typing import Any

from airlam.evaluation.rows import Figure, Results, Row
from airlam.serving.benchmark.parts import POINTS

PATH, RATE, CLASSIC, BATCH, SHARED, SESSIONS = "path", "rate", "rate_with_deadline", "batching", "shared", "sessions"
TASK = "serving"


def build_results(arguments: Any, parts: dict[str, dict[str, Any]]) -> Results:
    """Rows of all parts, the headline, and a table of each.

    Args:
        arguments: :class:`~airlam.serving.benchmark.config.ServingArguments`.
        parts: what was measured, by name.
    """
    load = arguments.load
    results = Results(arguments.title, TASK, config=dict(arguments.config))
    base = {"data": load.channel, "history": load.history, "horizon": load.num_future}
    tables: list[dict[str, Any]] = []
    for name, make in MAKERS.items():
        if name in parts:
            rows, table = make(parts[name], base, load)
            results.rows += rows
            tables.append(table)
    results.extras = {"tables": tables, "details": sentences(parts), "focus": load.model}
    results.headline = headline(parts, load.model)
    return results


def latencies(found: dict[str, Any]) -> dict[str, Figure]:
    """Figures of a load."""
    out = {
        f"latency_{point}_ms": Figure(found[point], "ms", "measured")
        for point in POINTS
        if found[point] == found[point]
    }
    out["per_second"] = Figure(found["per_second"], "1/s", "measured")
    out["on_time"] = Figure(found["on_time"], "1", "measured")
    return out


def ms(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _path(found: dict[str, Any], base: dict, load: Any) -> tuple[list[Row], dict]:
    rows = [Row(name, **base, figures=latencies(each), group=PATH) for name, each in found.items()]
    here = found["in process"]
    lines = [
        [name, *(ms(each[point]) for point in POINTS), ms(each["p50"] - here["p50"]), ms(each["p99"] - here["p99"])]
        for name, each in found.items()
    ]
    columns = ["path", *(f"{point} [ms]" for point in POINTS), "p50 over in process", "p99 over in process"]
    text = f"Requests one after another, {load.calls} each, one connection, nothing else to do."
    return rows, {"title": "What the path costs", "columns": columns, "lines": lines, "text": text}


def _cold(found: dict[str, Any], base: dict, load: Any) -> tuple[list[Row], dict]:
    lines = [
        ["start of Ray, Serve and the models", f"{found['start_s']:.1f} s"],
        ["first request", f"{ms(found['first_ms'])} ms"],
        ["later requests, p50 / p99", f"{ms(found['warm']['p50'])} / {ms(found['warm']['p99'])} ms"],
    ]
    return [], {"title": "Cold and warm", "columns": ["what", "takes"], "lines": lines}


def _batching(found: dict[str, Any], base: dict, load: Any) -> tuple[list[Row], dict]:
    rows = [
        Row(f"passes of {size}", **base, figures=latencies(each), group=BATCH, settings={"largest": int(size)})
        for size, each in found.items()
    ]
    first = next(iter(found.values()))["per_second"]
    lines = [
        [size, f"{each['per_second']:.1f}", f"{each['per_second'] / first:.2f}", ms(each["p50"]), ms(each["p99"])]
        for size, each in found.items()
    ]
    columns = ["requests of a pass, at most", "answers / s", "over passes of 1", "p50 [ms]", "p99 [ms]"]
    text = f"{load.clients} clients that each wait for their answer: the rate at saturation."
    return rows, {"title": "Batching", "columns": columns, "lines": lines, "text": text}


def _load(found: dict[str, Any], base: dict, load: Any) -> tuple[list[Row], dict]:
    rows: list[Row] = []
    lines: list[list[str]] = []
    text = (
        f"Poisson arrivals, {load.seconds:g} s each; latency counts from when a request is due. On time: within "
        f"{load.deadline_ms:g} ms. With a deadline the classic answers what would come too late."
    )
    for model, of_model in found.items():
        for each in of_model["rates"]:
            row = Row(model, **base, figures=latencies(each), group=CLASSIC if each["deadline"] else RATE)
            row.settings = {"share": each["share"], "rate": each["rate"]}
            row.figures |= {f"busy_{name}": Figure(value, "1", "measured") for name, value in each["busy"].items()}
            rows.append(row)
            lines.append([model, *_cells_of(each)])
        most, here = of_model["saturation"], of_model["in process"]
        text += (
            f" {model}: saturation {most['per_second']:.0f} answers / s; one call in process p50 {ms(here['p50'])}, "
            f"p99 {ms(here['p99'])} ms."
        )
    columns = ["model", "of saturation", "arrivals / s", "deadline", *(f"{point} [ms]" for point in POINTS)]
    columns += ["on time", "by the classic", "refused", "threads' use"]
    return rows, {"title": "Open loop", "columns": columns, "lines": lines, "text": text}


def _cells_of(each: dict[str, Any]) -> list[str]:
    used = ", ".join(f"{name} {value:.0%}" for name, value in each["busy"].items() if value > 0.005)
    return [
        f"{each['share']:.0%}",
        f"{each['rate']:.0f}",
        "yes" if each["deadline"] else "no",
        *(ms(each[point]) for point in POINTS),
        f"{each['on_time']:.2%}",
        f"{each['late'] / max(each['requests'], 1):.1%}",
        str(each["refused"]),
        used,
    ]


def _shared(found: dict[str, Any], base: dict, load: Any) -> tuple[list[Row], dict]:
    rows, lines = [], []
    for width, each in found.items():
        row = Row(f"width {width}", **base, parameters_total=each["parameters"], group=SHARED)
        row.settings = {"width": int(width)}
        for name, unit in (("shared_ms", "ms"), ("separate_ms", "ms"), ("gain", "1"), ("backbone_share", "1")):
            row.figures[name] = Figure(each[name], unit, "measured")
        rows.append(row)
        lines.append(
            [
                width,
                f"{each['parameters'] / 1e6:.1f} M",
                ms(each["separate_ms"]),
                ms(each["shared_ms"]),
                f"{each['gain']:.2f}",
                f"{each['backbone_share']:.0%}",
            ]
        )
    columns = ["width of the backbone", "parameters", "two models [ms]", "one pass [ms]", "gain", "backbone's share"]
    text = (
        "Prediction of one model, error variances and a vector for scalar heads of another, against all of them from "
        "one pass; a request's share of a batch of four, in process. Larger backbones have random weights."
    )
    return rows, {"title": "One backbone for several answers", "columns": columns, "lines": lines, "text": text}


def _sessions(found: dict[str, Any], base: dict, load: Any) -> tuple[list[Row], dict]:
    row = Row(load.model, **base, num_links=found["users"], group=SESSIONS)
    for name in ("requests", "lost", "differing", "rebuilt", "replayed"):
        row.figures[name] = Figure(found[name], "1", "measured")
    kills = ", ".join(f"a {each['what']} after {each['after']}" for each in found["kills"])
    lines = [
        ["users whose sessions lived at once", str(found["users"])],
        ["requests", str(found["requests"])],
        ["killed", kills],
        ["lost requests", str(found["lost"])],
        ["answers that differ from the stream in process", str(found["differing"])],
        ["sessions that began anew from the client's history", str(found["rebuilt"])],
        ["stored answers sent again", str(found["replayed"])],
        ["seconds", f"{found['wall_s']:.0f}"],
    ]
    text = "A stream in process is begun anew where the client says that its session was."
    return [row], {"title": "Faults", "columns": ["what", "count"], "lines": lines, "text": text}


def _soak(found: dict[str, Any], base: dict, load: Any) -> tuple[list[Row], dict]:
    memory = found["memory_mb"]
    lines = [
        ["seconds at saturation", f"{found['seconds']:.0f}"],
        ["answers", str(found["requests"] - found["refused"] - found["failed"])],
        ["failed, refused", f"{found['failed']}, {found['refused']}"],
        ["memory of the replica: first, last, largest [MB]", f"{memory[0]:.0f}, {memory[-1]:.0f}, {max(memory):.0f}"],
        ["growth after the first fifth", f"{found['growth']:+.1%}"],
    ]
    return [], {"title": "Soak", "columns": ["what", "value"], "lines": lines}


MAKERS = {
    "cold": _cold,
    "path": _path,
    "batching": _batching,
    "load": _load,
    "shared": _shared,
    "sessions": _sessions,
    "soak": _soak,
}


def headline(parts: dict[str, dict[str, Any]], model: str) -> str:
    """The sentence on top."""
    said = []
    if "path" in parts:
        here, fused = (parts["path"][name] for name in ("in process", "Serve, fused"))
        over = fused["p50"] - here["p50"]
        said.append(f"a request to {model} on Serve takes {ms(over)} ms (p50) more than a call in process")
    if "load" in parts:
        said.append(f"one replica carries {parts['load'][model]['saturation']['per_second']:.0f} predictions / s")
    if "sessions" in parts:
        lost, requests = parts["sessions"]["lost"], parts["sessions"]["requests"]
        said.append(f"{lost} of {requests} requests are lost while a replica, a node and the proxy are killed")
    text = "; ".join(said)
    return text[:1].upper() + text[1:] + "." if text else "Nothing was measured."


def sentences(parts: dict[str, dict[str, Any]]) -> list[str]:
    """What the tables say in words."""
    out = []
    for model, of_model in parts.get("load", {}).items():
        rates = [each for each in of_model["rates"] if not each["deadline"]]
        half = min(rates, key=lambda each: abs(each["share"] - 0.5))
        here = of_model["in process"]
        out.append(
            f"{model} at {half['share']:.0%} of saturation: the whole path takes {ms(half['p50'] - here['p50'])} ms "
            f"(p50) and {ms(half['p99'] - here['p99'])} ms (p99) more than a call in process, waiting included."
        )
    if "batching" in parts:
        rates = [each["per_second"] for each in parts["batching"].values()]
        out.append(f"Batching carries {rates[-1] / rates[0]:.2f} times as many requests as passes of one.")
    if "shared" in parts:
        gains = ", ".join(f"{each['gain']:.2f} (width {width})" for width, each in parts["shared"].items())
        out.append(f"One pass for all answers against two models: {gains} times as many.")
    if "soak" in parts:
        out.append(f"The replica's memory grew by {parts['soak']['growth']:+.1%} at saturation.")
    return out
