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
    "wiener": Look("Wiener (tuned)", "#56b4e9", "-", "v", "Wiener"),
    "kalman": Look("Kalman (tuned)", "#56b4e9", "--", "<", "Kalman"),
    "pad": Look("PAD (tuned)", "#e69f00", "-", "^", "PAD"),
    "ar": Look("AR with shrinkage (tuned)", "#0072b2", "-", "D", "AR"),
    "eigen-ar": Look("AR in the eigenbasis (tuned)", "#882255", "-.", "d", "eigen-AR"),
    "linear": Look("LS + linear interpolation", "#8c8c8c", "-", "s", "linear"),
    "dft": Look("DFT interpolation (tuned)", "#e69f00", "-", "^", "DFT"),
    "lmmse": Look("LMMSE, training covariance (tuned)", "#0072b2", "-", "D", "LMMSE"),
    "lmmse-sample": Look("LMMSE, link's own profile (tuned)", "#56b4e9", "-", "v", "LMMSE own"),
    "eigen-lmmse": Look("LMMSE in the eigenbasis, training covariance (tuned)", "#882255", "-.", "d", "eigen-LMMSE"),
    "eigen-lmmse-sample": Look("LMMSE in the eigenbasis, own profile (tuned)", "#aa4499", "-.", "d", "eigen-LMMSE own"),
    "lmmse-genie": Look("LMMSE, covariance of the link's rays (genie)", "#444444", ":", ""),
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
CLASSICAL = ("hold", "wiener", "kalman", "pad", "ar", "eigen-ar", *INTERPOLATION)
BOUNDS = ("lmmse-genie", "genie_per_bin", "genie_lmmse", "perfect")  # they know what no receiver knows
# A learned method is named by its checkpoint; what was done to it follows a colon.
VARIANTS = {
    "": Look("{}", "#d55e00", "-", "o"),
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
    if method in LOOKS:
        return LOOKS[method]
    name, variant, share = parts(method)
    found = VARIANTS.get(variant)
    if found is None:
        return Look(method, "#d55e00", "-.", "o")
    seen = f" ({share} of the links)" if share else ""
    short_label = found.short and found.short + seen
    return Look(found.label.format(name) + seen, found.color, found.line, found.marker, short_label)


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
    return method not in CLASSICAL and method not in BOUNDS


def order(methods: set[str] | list[str]) -> list[str]:
    """Methods in the order of the tables: classical ones first, learned ones, then the bounds."""
    variants = list(VARIANTS)

    def place(method: str) -> tuple[int, float, float, str]:
        if method in CLASSICAL:
            return (0, CLASSICAL.index(method), 0.0, method)
        if method in BOUNDS:
            return (2, BOUNDS.index(method), 0.0, method)
        _, variant, share = parts(method)
        # the start of a learned method stands before it, what was made of it after
        rank = {"no-correction": 0, "": 1}.get(variant, 2 + variants.index(variant) if variant in variants else 9)
        return (1, rank, float(share[:-1] or 0) if share else 0.0, method)

    return sorted(set(methods), key=place)
