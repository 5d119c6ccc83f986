"""One method, declared without importing its class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

KINDS = ("classical", "learned", "bound")
# A name is looked up in this order where the role is not given.
ROLES = ("predictor", "estimator", "beam-tracker", "precoder", "denoiser", "pilot-reader", "codec")
TUNED = ("predictor", "estimator", "beam-tracker")  # roles whose classical methods benchmarks tune in every cell
TUNED_ENDING = " (tuned)"  # of a label; reports show it only where tuning chose something


@dataclass(frozen=True)
class Method:
    """A method of one role: predictor, estimator, beam-tracker, precoder, denoiser, pilot-reader or codec.

    Attributes:
        name: in recipes and results. The same name may be used once in each role.
        role: see ``ROLES``; it says which interface of :mod:`airlam.interfaces` the built object has.
        kind: ``"classical"``, ``"learned"``, or ``"bound"`` (it uses what no receiver knows).
        factory: what builds it: ``"package.module:Class"``, or a callable. Empty: the row has this name and look, but
            comes from elsewhere (a checkpoint, or a computation inside a benchmark).
        options: keyword arguments that the factory always gets.
        grid: argument -> values to try; benchmarks tune classical methods on it, in each cell. The order of the
            arguments is the order of the search. Empty: nothing is tuned. Roles outside ``TUNED`` have none.
        tune_links: how many links tuning takes at most, evenly from all there are; 0: all. For slow methods.
        what: one line for ``airlam list``.
        label, short: in tables and legends; ``short`` where space is scarce. Default: ``name`` and ``label``. A report
            leaves out the ending "(tuned)" where nothing was tuned.
        color, line, marker: in plots. Empty: the plot chooses.
        references: what the method is described in: keys of ``references.bib`` in this folder, or whole BibTeX entries
            (:func:`airlam.methods.bibliography`).

    Raises:
        ValueError: no such role or kind, a name that no recipe could hold, or a grid where nothing is tuned.

    Example:
        >>> Method("mine", factory="my_package.my_file:MyPredictor", grid={"order": (2, 4)}).label
        'mine'
    """

    name: str
    role: str = "predictor"
    kind: str = "classical"
    factory: str | Callable[..., Any] = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    tune_links: int = 0
    what: str = ""
    label: str = ""
    short: str = ""
    color: str = ""
    line: str = "-"
    marker: str = "o"
    references: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role of method {self.name!r} is {self.role!r}, but must be one of {', '.join(ROLES)}")
        if self.kind not in KINDS:
            raise ValueError(f"kind of method {self.name!r} is {self.kind!r}, but must be one of {', '.join(KINDS)}")
        # "ar + rzf" is a chain, "airlam-tiny:adapted" a variant, "{model}" a place to fill
        if not isinstance(self.name, str) or not self.name.strip() or any(c in self.name for c in "+:{}\n"):
            raise ValueError(f"the name of a method is {self.name!r}, but must be a text without +, :, {{ and }}")
        if self.grid and self.role not in TUNED:
            raise ValueError(
                f"method {self.name!r} has a grid for {', '.join(self.grid)}, but benchmarks do not tune a "
                f"{self.role}; tune it before and give these arguments as its options"
            )
        if not self.label:
            object.__setattr__(self, "label", self.name)

    def load(self) -> Callable[..., Any]:
        """The factory itself, imported.

        Raises:
            LookupError: the method has no factory. ImportError, AttributeError: its text names nothing.
        """
        if callable(self.factory):
            return self.factory
        module, colon, attribute = self.factory.partition(":")
        if not colon:
            raise LookupError(f"method {self.name!r} has no factory 'package.module:Class': it cannot be built by name")
        return getattr(import_module(module), attribute)

    def build(self, *arguments: Any, **options: Any) -> Any:
        """The method as an object; ``options`` replace those of the declaration.

        Example:
            >>> from airlam.methods import find
            >>> find("zf-wf", "precoder").build().name
            'zf-wf'
        """
        return self.load()(*arguments, **{**self.options, **options})
