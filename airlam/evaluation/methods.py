"""How methods are called, coloured and ordered in every table and plot."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Look:
    """Label, colour (Okabe and Ito's palette, safe for colour-blind readers), line and marker of a method."""

    label: str
    color: str
    line: str = "-"
    marker: str = "o"


LOOKS = {
    "hold": Look("hold (outdated CSI)", "#8c8c8c", "-", "s"),
    "wiener": Look("Wiener", "#56b4e9", "-", "v"),
    "kalman": Look("Kalman", "#56b4e9", "--", "<"),
    "pad": Look("PAD (tuned)", "#e69f00", "-", "^"),
    "ar": Look("AR with shrinkage (tuned)", "#0072b2", "-", "D"),
    "airlam-tiny": Look("airlam-tiny", "#d55e00", "-", "o"),
    "airlam-tiny:no-correction": Look("airlam-tiny, correction off", "#cc79a7", "--", "o"),
    "airlam-tiny:adapted": Look("airlam-tiny, adapted", "#009e73", "-", "P"),
    "airlam-tiny:random-start": Look("random start, same data and steps", "#b8860b", "--", "X"),
    "genie_per_bin": Look("per-bin genie", "#444444", ":", ""),
    "genie_lmmse": Look("genie LMMSE (bound)", "#000000", "--", ""),
    "perfect": Look("perfect CSI", "#000000", "-", ""),
}
_SPARE = ("#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9")
BOUNDS = ("genie_per_bin", "genie_lmmse", "perfect")  # they know what no receiver knows


def look(method: str) -> Look:
    """The look of a method; a stranger's is made from its name, the same in every plot."""
    if method in LOOKS:
        return LOOKS[method]
    if method.endswith(":no-correction"):
        return Look(f"{method.removesuffix(':no-correction')}, correction off", "#cc79a7", "--", "o")
    spare = sum(method.encode()) % len(_SPARE)
    return Look(method, _SPARE[spare], "-.", "o")


def order(methods: set[str] | list[str]) -> list[str]:
    """Methods in the order of the tables: simple ones first, learned ones, then the bounds."""
    known = list(LOOKS)
    first_bound = known.index("genie_per_bin") - 0.5
    return sorted(set(methods), key=lambda name: (known.index(name) if name in LOOKS else first_bound, name))
