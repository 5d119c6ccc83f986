"""Looks of the methods of one report: no two of them are drawn alike, and a method is called tuned only if it was."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import product

from airlam.evaluation.report.style import Look, is_declared, is_learned, look, order
from airlam.evaluation.rows import Results, Row
from airlam.methods import ROLES, TUNED_ENDING, find

COLORS = ("#d55e00", "#117733", "#332288", "#cc79a7", "#661100", "#009988", "#999933", "#6699cc")  # Okabe-Ito, Tol
MARKERS = ("o", "P", "X", "*", "h", "p", ">", "8")
LINES = ("-", "--", "-.", ":")
DECLARED, FOCUS, LEARNED, UNDECLARED = range(4)  # in this order methods take their looks


class Looks:
    """How each method of a set of results is drawn: :func:`airlam.evaluation.report.style.look`, made distinct.

    Methods with a declared look come first, then that of the headline, other learned ones, and those without a declared
    look. Each gets a colour and marker that no other method has. Among their like, methods are taken in the order of
    the tables, so equal results give equal looks.

    Args:
        methods: names.
        focus: the method in the headline.
        tuned: methods for which tuning chose something; labels of all others lose their "(tuned)". ``None``: labels
            stay as they are.

    Example:
        >>> looks = Looks(["airlam-tiny", "mine", "yours"])
        >>> len({(looks[m].color, looks[m].marker) for m in ("airlam-tiny", "mine", "yours")})
        3
    """

    def __init__(self, methods: Iterable[str], focus: str = "", tuned: Collection[str] | None = None):
        names = order(list(methods))
        self._untuned = set() if tuned is None else set(names) - set(tuned)
        self._looks: dict[str, Look] = {}

        def rank(name: str) -> int:
            if not is_learned(name):
                return DECLARED if is_declared(name) else UNDECLARED
            return FOCUS if name == focus else LEARNED

        for name in sorted(names, key=rank):
            self._looks[name] = _distinct(self._named(name), self._looks.values(), rank(name))

    @classmethod
    def of(cls, results: Results) -> Looks:
        """Of all methods that the results name."""
        names = dict.fromkeys(row.method for row in results.rows)
        return cls(names, results.extras.get("focus", ""), {row.method for row in results.rows if _was_tuned(row)})

    def __getitem__(self, method: str) -> Look:
        return self._looks.get(method) or look(method)

    def short(self, method: str) -> str:
        """The short label."""
        return self[method].short or self[method].label

    def in_a_sentence(self, method: str) -> str:
        """The label, but "the tuned AR" for the usual baseline."""
        if method != "ar":
            return self[method].label
        return "the AR" if method in self._untuned else "the tuned AR"

    def _named(self, method: str) -> Look:
        """The declared look; without "(tuned)" where nothing was tuned."""
        style, source = look(method), find(method.split(" + ")[0])
        if source is None or method not in self._untuned:
            return style
        return replace(style, label=style.label.replace(source.label, source.label.removesuffix(TUNED_ENDING)))


def _was_tuned(row: Row) -> bool:
    """Whether the row holds values of the method's tuning grid; of a chain, of the grid of its CSI."""
    name = row.method.split(" + ")[0]
    return any(key in row.settings for role in ROLES if (method := find(name, role)) for key in method.grid)


def _distinct(style: Look, taken: Iterable[Look], rank: int) -> Look:
    """The look with a colour and marker that no other method has; of bounds, which have no marker, with a line.

    Args:
        rank: of the method, see :class:`Looks`. A declared look keeps its colour, that of a chain of which CSI it has.
    """
    taken = list(taken)

    def free(wanted: Look) -> bool:
        same = [each for each in taken if (each.color, each.marker) == (wanted.color, wanted.marker)]
        return not same if wanted.marker else wanted.line not in [each.line for each in same]

    others = [replace(style, color=color, marker=marker) for marker, color in product(MARKERS, COLORS)]
    # dots of tables and bars show nothing but the colour: one that is used least, and then a marker
    colors, markers = ([getattr(each, name) for each in taken] for name in ("color", "marker"))
    others.sort(key=lambda each: (colors.count(each.color), markers.count(each.marker)))
    if rank == DECLARED:
        lines = [] if style.marker else [replace(style, line=line) for line in LINES]
        first = [style, *lines, *(replace(style, marker=marker) for marker in MARKERS)]
    else:
        first = [] if rank == UNDECLARED else [style]
    return next((each for each in (*first, *others) if free(each)), style)
