"""Looks of the methods of one report: no two learned methods share both colour and marker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

from airlam.evaluation.report.style import Look, is_learned, look, order
from airlam.evaluation.rows import Results

COLORS = ("#d55e00", "#117733", "#332288", "#cc79a7", "#661100", "#009988", "#999933", "#6699cc")  # Okabe-Ito, Tol
MARKERS = ("o", "P", "X", "*", "h", "p", ">", "8")


class Looks:
    """How each method of a set of results is drawn: :func:`airlam.evaluation.report.style.look`, made distinct.

    Methods are taken in the order of the tables, so equal results give equal looks.

    Args:
        methods: names.

    Example:
        >>> looks = Looks(["airlam-tiny", "mine", "yours"])
        >>> len({(looks[m].color, looks[m].marker) for m in ("airlam-tiny", "mine", "yours")})
        3
    """

    def __init__(self, methods: Iterable[str]):
        self._looks: dict[str, Look] = {}
        names = order(list(methods))
        # the usual looks first: a method that has a look of its own keeps it
        taken = {(look(name).color, look(name).marker) for name in names if not is_learned(name)}
        spare = [pair[::-1] for pair in product(MARKERS, COLORS)]
        for name in names:
            style = look(name)
            if is_learned(name):
                if (style.color, style.marker) in taken:
                    free = next((pair for pair in spare if pair not in taken), (style.color, style.marker))
                    style = replace(style, color=free[0], marker=free[1])
                taken.add((style.color, style.marker))
            self._looks[name] = style

    @classmethod
    def of(cls, results: Results) -> Looks:
        """Of all methods that the results name."""
        return cls(dict.fromkeys(row.method for row in results.rows))

    def __getitem__(self, method: str) -> Look:
        return self._looks.get(method) or look(method)
