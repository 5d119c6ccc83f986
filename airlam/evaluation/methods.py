"""How methods are called, coloured and ordered in every table and plot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """Label, short label, colour (safe for colour-blind readers: Okabe and Ito, Tol), line and marker of a method."""

    label: str
    color: str
    line: str = "-"
    marker: str = "o"
    short: str = ""


LOOKS = {
    "hold": Look("hold (outdated CSI)", "#8c8c8c", "-", "s", "hold"),
    "mean": Look("mean of the history (tuned)", "#bbbbbb", "--", "s", "mean"),
    "wiener": Look("Wiener (tuned)", "#56b4e9", "-", "v", "Wiener"),
    "kalman": Look("Kalman (tuned)", "#56b4e9", "--", "<", "Kalman"),
    "pad": Look("PAD (tuned)", "#e69f00", "-", "^", "PAD"),
    "ar": Look("AR with shrinkage (tuned)", "#0072b2", "-", "D", "AR"),
    "eigen-ar": Look("AR in the eigenbasis (tuned)", "#882255", "-.", "d", "eigen-AR"),
    "stack": Look("least-squares stack of the classical methods", "#0072b2", ":", "p", "stack"),
    "linear": Look("LS + linear interpolation", "#8c8c8c", "-", "s", "linear"),
    "dft": Look("DFT interpolation (tuned)", "#e69f00", "-", "^", "DFT"),
    "lmmse": Look("LMMSE, training covariance (tuned)", "#0072b2", "-", "D", "LMMSE"),
    "lmmse-sample": Look("LMMSE, link's own profile (tuned)", "#56b4e9", "-", "v", "LMMSE own"),
    "eigen-lmmse": Look("LMMSE in the eigenbasis, training covariance (tuned)", "#882255", "-.", "d", "eigen-LMMSE"),
    "eigen-lmmse-sample": Look("LMMSE in the eigenbasis, own profile (tuned)", "#aa4499", "-.", "d", "eigen-LMMSE own"),
    "lmmse-genie": Look("LMMSE, covariance of the link's rays (genie)", "#444444", ":", ""),
    "last-best": Look("last best beam (averaged, tuned)", "#0072b2", "-", "D", "last best"),
    "extrapolation": Look("linear extrapolation (tuned)", "#e69f00", "-", "^", "extrapolation"),
    "trained-linear": Look("linear regression, trained on other drops", "#882255", "-.", "d", "linear regression"),
    "softmax": Look("softmax regression, trained on other drops", "#56b4e9", "--", "v", "softmax regression"),
    "sweep": Look("full sweep at the time", "#444444", ":", "", "full sweep"),
    "airlam-small": Look("airlam-small", "#009988", "-", "P"),
    "gru": Look("GRU", "#999933", "-", "1"),
    "lstm": Look("LSTM", "#999933", "--", "2"),
    "cnn": Look("CNN", "#aa4499", "-", "3"),
    "transformer": Look("transformer", "#332288", "-", "4"),
    "wifo": Look("WiFo-style", "#661100", "-", "+"),
    "llm4cp": Look("LLM4CP-style", "#6699cc", "-", "x"),
    "minilm": Look("MiniLM, frozen", "#6699cc", "--", "*"),
    "refined-cnn": Look("CNN on top of eigen-AR", "#aa4499", "--", "3", "eigen-AR + CNN"),
    "airlam-tiny-random": Look("airlam-tiny, trained alike from random weights", "#d55e00", ":", "h", "random start"),
    "genie_per_bin": Look("per-bin genie", "#444444", ":", ""),
    "genie_lmmse": Look("genie LMMSE (bound)", "#000000", "--", ""),
    "perfect": Look("perfect CSI", "#000000", "-", ""),
}
INTERPOLATION = ("linear", "dft", "lmmse", "lmmse-sample", "eigen-lmmse", "eigen-lmmse-sample")
BEAM_TRACKING = ("last-best", "extrapolation", "trained-linear", "softmax")
CLASSICAL = ("hold", "mean", "wiener", "kalman", "pad", "ar", "eigen-ar", "stack", *INTERPOLATION, *BEAM_TRACKING)
CHAIN_BOUNDS = ("perfect + rzf", "perfect + wmmse", "perfect + tuned", "perfect + dpc")
# they know what no receiver knows, or measure everything
BOUNDS = ("lmmse-genie", "genie_per_bin", "genie_lmmse", "perfect", "sweep", *CHAIN_BOUNDS)
# CSI and precoder of a chain ("ar + rzf", airlam.evaluation.chains)
PRECODERS = {
    "mrt": Look("MRT", "", ":"),
    "zf": Look("ZF", "", ":"),
    "zf-wf": Look("ZF, water-filling", "", ":"),
    "slnr": Look("SLNR", "", ":"),
    "type1": Look("Type I codebook", "", ":"),
    "rzf": Look("RZF", "#cc79a7", "--"),
    "wmmse": Look("WMMSE", "#cc79a7", ":"),
    "robust rzf": Look("robust RZF", "#e69f00", "-"),
    "robust slnr": Look("robust SLNR", "#e69f00", ":"),
    "robust wmmse": Look("robust WMMSE", "#009e73", "-"),
    "tuned": Look("best classical precoder (tuned)", "", "-", short="tuned"),
    "dpc": Look("dirty paper coding (bound)", "#000000", ":"),
    "random-start": Look("learned from random weights", "#b8860b", "--"),
}
SOURCES = {
    "ls": Look("least squares", "#8c8c8c", "-", "v", "LS"),
    "raw": Look("raw CSI", "#8c8c8c", "-", "s"),
    "threshold": Look("beam-delay threshold (tuned)", "#e69f00", "-", "^", "threshold"),
    "lmmse": Look("LMMSE, training covariance", "#0072b2", "-", "D", "LMMSE"),
    "perfect": Look("perfect CSI", "#000000", "-", ""),
}
# A learned method is named by its checkpoint; what was done to it follows a colon.
VARIANTS = {
    "": Look("{}", "#d55e00", "-", "o"),
    "start": Look("{}, its classical start", "#cc79a7", "--", "o"),
    "no-correction": Look("{}, correction off", "#cc79a7", "--", "o"),
    "adapted": Look("{}, adapted", "#009e73", "-", "P"),
    "random-start": Look("random start, trained alike", "#b8860b", "--", "X", "random start"),
}


def look(method: str) -> Look:
    """The look of a method, the same in every plot.

    Example:
        >>> look("airlam-tiny:adapted").label
        'airlam-tiny, adapted'
    """
    if " + " in method:
        return _chain_look(*method.split(" + "))
    if method in LOOKS:
        return LOOKS[method]
    name, variant, share = parts(method)
    found = VARIANTS.get(variant)
    if found is None:
        return Look(method, "#d55e00", "-.", "o")
    seen = f" ({share} of the links)" if share else ""
    short_label = found.short and found.short + seen
    return Look(found.label.format(name) + seen, found.color, found.line, found.marker, short_label)


def _chain_look(source: str, precoder: str) -> Look:
    seen, beams = SOURCES.get(source) or look(source), PRECODERS.get(precoder) or Look(precoder, "#d55e00", "-")
    label = f"{seen.short or seen.label} + {beams.short or beams.label}"
    name, variant, _ = parts(source)
    if variant == "random-start":
        label = f"{name} from random weights + {beams.short or beams.label}"
    color = seen.color if source in (*CLASSICAL, *SOURCES) or ":" in source or not beams.color else beams.color
    return Look(label, color, "--" if ":" in source else beams.line, seen.marker)


def parts(method: str) -> tuple[str, str, str]:
    """Name, variant, and the share of a site's links that the variant saw.

    Example:
        >>> parts("airlam-tiny:random-start-5%")
        ('airlam-tiny', 'random-start', '5%')
    """
    name, _, variant = method.partition(":")
    kind, _, share = variant.rpartition("-")
    return (name, kind, share) if share.endswith("%") else (name, variant, "")


def short(method: str) -> str:
    """The short label."""
    return look(method).short or look(method).label


def is_learned(method: str) -> bool:
    """Neither classical nor a bound."""
    if " + " in method:
        source, precoder = method.split(" + ")
        return source not in (*CLASSICAL, *SOURCES) or precoder not in PRECODERS or precoder == "random-start"
    return method not in CLASSICAL and method not in BOUNDS


def order(methods: set[str] | list[str]) -> list[str]:
    """Methods in the order of the tables: classical ones first, learned ones, then the bounds."""
    variants, precoders = list(VARIANTS), list(PRECODERS)

    def place_of_chain(method: str) -> tuple[int, float, float, str]:
        source, precoder = method.split(" + ")
        beams = precoders.index(precoder) if precoder in precoders else len(precoders)
        if method in BOUNDS:
            return (2, BOUNDS.index(method), 0.0, method)
        known = [*CLASSICAL, *SOURCES]
        return (int(is_learned(method)), known.index(source) if source in known else 0, beams, method)

    def place(method: str) -> tuple[int, float, float, str]:
        if " + " in method:
            return place_of_chain(method)
        if method in CLASSICAL:
            return (0, CLASSICAL.index(method), 0.0, method)
        if method in BOUNDS:
            return (2, BOUNDS.index(method), 0.0, method)
        _, variant, share = parts(method)
        # the start of a learned method stands before it, what was made of it after
        first = {"no-correction": 0, "start": 0, "": 1}
        rank = first.get(variant, 2 + variants.index(variant) if variant in variants else 9)
        return (1, rank, float(share[:-1] or 0) if share else 0.0, method)

    return sorted(set(methods), key=place)
