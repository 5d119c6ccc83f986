"""Names of chains: ``"ar + rzf"`` says what CSI the base station has and how it precodes.

Left of the plus stands a source of CSI: a predictor (classical, tuned in the cell, or learned), ``perfect``; or, where
users stand still and the last slot itself is to be served, ``raw``, ``threshold``, ``lmmse`` or a learned estimate; or,
where pilots are all there is, ``ls``, ``lmmse`` or a network that reads them.
Right of it a precoder: one by name, ``robust`` and a name (it is told the covariance of the CSI's error), a learned
precoder (told likewise), or ``tuned``: the best classical one on validation drops.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airlam.errors import RecipeError
from airlam.evaluation.engine.fingerprint import outside
from airlam.methods import identity_of, is_own, own_method
from airlam.methods import names as registered
from airlam.recipes import check_is_no_class, nearest

DENOISED = ("raw", "threshold", "lmmse")
ROBUST = ("rzf", "slnr", "wmmse")


@dataclass(frozen=True)
class Chain:
    """``source + precoder``; ``robust``: the precoder is told the covariance of the CSI's error. Learned precoders, and
    those of one's own, are told it wherever it is known; before perfect CSI they are told nothing."""

    source: str
    precoder: str
    robust: bool

    @property
    def name(self) -> str:
        return f"{self.source} + {'robust ' if self.robust and self.precoder in ROBUST else ''}{self.precoder}"


def chain_texts(values: Sequence[Any], source: str = "methods") -> list[str]:
    """The texts of several chains, see :func:`chain_text`.

    Raises:
        RecipeError: also where two different methods of one's own have the same name.
    """
    seen: dict[tuple[str, str], Any] = {}
    return [chain_text(value, source, seen) for value in values]


def chain_text(value: Any, source: str = "methods", seen: dict[tuple[str, str], Any] | None = None) -> str:
    """A chain as a text. Predictors and precoders of one's own in it are registered, and stand there by their names.

    Args:
        value: ``"ar + rzf"``, ``"my_file:MyPredictor + my_file:MyPrecoder"``; or a mapping, where a class needs
            arguments: ``{csi: {class_path: ..., init_args: {...}}, precoder: rzf}``.
        seen: methods of one's own in the chains before, by role and name.

    Raises:
        RecipeError: no chain, or a class that cannot be used.
    """
    if isinstance(value, Mapping):
        if set(value) != {"csi", "precoder"}:
            raise RecipeError(f"{source} has {dict(value)!r}, but a chain has the keys csi and precoder")
        left, right = value["csi"], value["precoder"]
        places = f"{source}.csi", f"{source}.precoder"
    else:
        left, plus, right = (part.strip() for part in str(value).partition("+"))
        if not plus or not left or not right:
            raise RecipeError(f"a method is {value!r}, but must name CSI and precoder, like 'ar + rzf'")
        places = f"{source}: the left half of {value!r}", f"{source}: the right half of {value!r}"
    words = []
    for part, role, place in ((left, "predictor", places[0]), (right, "precoder", places[1])):
        words.append(own_method(part, role, place).name if is_own(part) else str(part))
        if not is_own(part) or seen is None:
            continue
        mine = identity_of(part, source)
        if seen.setdefault((role, words[-1]), mine) != mine:
            raise RecipeError(
                f"{source} has two different {role}s called {words[-1]!r}; give one another name: "
                "{class_path: ..., init_args: ..., name: ...}"
            )
    return " + ".join(words)


def fill_in(text: str, names: Mapping[str, str]) -> str:
    """``text`` with its places filled in.

    Example:
        >>> fill_in("{model} + rzf", {"{model}": "airlam-tiny"})
        'airlam-tiny + rzf'
    """
    for place, name in names.items():
        text = str(text).replace(place, name)
    return text


def parse_chain(
    text: str, sources: Sequence[str], precoders: Sequence[str], *, exact: Sequence[str] = ("perfect",)
) -> Chain:
    """A chain from its name.

    Args:
        exact: sources of CSI whose errors nobody knows.

    Raises:
        RecipeError: no plus, a source or precoder that is not among those given, or a robust form that nobody can tell
            the errors of the CSI.

    Example:
        >>> parse_chain("ar + robust rzf", ["ar"], []).robust
        True
    """
    left, plus, right = (part.strip() for part in str(text).partition("+"))
    if not plus or not left or not right:
        raise RecipeError(f"a method is {text!r}, but must name CSI and precoder, like 'ar + rzf'")
    robust, name = right.startswith("robust "), right.removeprefix("robust ").strip()
    valid = [*registered("precoder", built=True), "tuned", *precoders] + (["dpc"] if left == "perfect" else [])
    if left not in sources:
        check_is_no_class(left, repr(text))
        raise RecipeError(
            f"{text!r}: no source of CSI {left!r}{nearest(left, sources) or ';'} valid: {', '.join(sources)}"
        )
    if name not in valid:
        check_is_no_class(name, repr(text))
        raise RecipeError(f"{text!r}: no precoder {name!r}{nearest(name, valid) or ';'} valid: {', '.join(valid)}")
    if robust and name not in ROBUST:
        raise RecipeError(f"{text!r}: {name} has no robust form; {', '.join(ROBUST)} have, learned ones always use it")
    if robust and left in exact:
        raise RecipeError(f"'{left} + {right}': nobody knows the errors of that CSI; write '{left} + {name}'")
    takes = robust or name in precoders or bool(outside([name], "precoder"))
    return Chain(left, name, takes and left not in exact)
