"""How methods are called, coloured and ordered in every table and plot: the registry's looks, variants and chains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from airlam.methods import Method, find, known, names


@dataclass(frozen=True)
class Look:
    """Label, short label, colour (safe for colour-blind readers: Okabe and Ito, Tol), line and marker of a method."""

    label: str
    color: str
    line: str = "-"
    marker: str = "o"
    short: str = ""


# Forms of the registered precoders in a chain ("ar + robust rzf", airlam.evaluation.benchmarks.beamforming.chains).
PRECODER_FORMS = {
    "robust rzf": Look("robust RZF", "#e69f00", "-"),
    "robust slnr": Look("robust SLNR", "#e69f00", ":"),
    "robust wmmse": Look("robust WMMSE", "#009e73", "-"),
    "tuned": Look("best classical precoder (tuned)", "", "-", short="tuned"),
    "random-start": Look("learned from random weights", "#b8860b", "--"),
}
CHAIN_BOUNDS = ("perfect + rzf", "perfect + wmmse", "perfect + tuned", "perfect + dpc")
# Methods that know what no receiver knows, or measure everything.
BOUNDS = (*names(kind="bound"), *CHAIN_BOUNDS)
# A learned method is named by its checkpoint; what was done to it follows a colon.
VARIANTS = {
    "": Look("{}", "#d55e00", "-", "o"),
    "start": Look("{}, its classical start", "#cc79a7", "--", "o"),
    "no-correction": Look("{}, correction off", "#cc79a7", "--", "o"),
    "adapted": Look("{}, adapted", "#009e73", "-", "P"),
    "random-start": Look("random start, trained alike", "#b8860b", "--", "X", "random start"),
}
STREAM = "stream"  # variant of any method that runs slot by slot


def look(method: str) -> Look:
    """The look of a method, the same in every plot.

    Example:
        >>> look("airlam-tiny:adapted").label
        'airlam-tiny, adapted'
    """
    if " + " in method:
        return _chain_look(*method.split(" + "))
    known_as = find(method)
    if known_as is not None and known_as.color:
        return _look_of(known_as)
    if known_as is not None and known_as.kind == "classical":  # registered without a colour
        return Look(known_as.label, "#117733", known_as.line, "p", known_as.short)
    name, variant, share = parts(method)
    if variant == STREAM:
        whole = look(name)
        return replace(whole, label=f"{whole.label}, stream", line=":", short=f"{whole.short or whole.label}, stream")
    found = VARIANTS.get(variant)
    if found is None:
        return Look(method, "#d55e00", "-.", "o")
    registered = find(name)
    label = found.label.format(registered.label if registered is not None else name)
    seen = f" ({share} of the links)" if share else ""
    short_label = found.short and found.short + seen
    return Look(label + seen, found.color, found.line, found.marker, short_label)


def is_declared(method: str) -> bool:
    """Whether the look is one that airlam, a package or a registration declares: not one that any name gets.

    Example:
        >>> is_declared("ar"), is_declared("ar + rzf"), is_declared("mine"), is_declared("ar + mine")
        (True, True, False, False)
    """
    source, _, precoder = method.partition(" + ")
    roles = ("denoiser", "pilot-reader", None) if precoder else (None,)
    seen = any(found is not None and found.color for found in (find(source, role) for role in roles))
    beams = find(precoder, "precoder")
    return seen and (not precoder or precoder in PRECODER_FORMS or bool(beams is not None and beams.color))


def _look_of(method: Method) -> Look:
    return Look(method.label, method.color, method.line, method.marker, method.short)


def _source_look(source: str) -> Look:
    """CSI of a chain: a denoiser or a reader of pilots has its own label, any other method that of its row."""
    for role in ("denoiser", "pilot-reader"):
        if (method := find(source, role)) is not None:
            return _look_of(method)
    return look(source)


def _precoder_look(precoder: str) -> Look:
    method = find(precoder, "precoder")
    if method is not None:
        return _look_of(method)
    return PRECODER_FORMS.get(precoder) or Look(precoder, "#d55e00", "-")


def _chain_look(source: str, precoder: str) -> Look:
    seen, beams = _source_look(source), _precoder_look(precoder)
    label = f"{seen.short or seen.label} + {beams.short or beams.label}"
    name, variant, _ = parts(source)
    if variant == "random-start":
        label = f"{name} from random weights + {beams.short or beams.label}"
    color = seen.color if not _is_learned_source(source) or ":" in source or not beams.color else beams.color
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
    """Neither classical nor a bound; a name that the registry does not know is that of a checkpoint.

    Example:
        >>> is_learned("vector-prony"), is_learned("airlam-tiny"), is_learned("ar + tuned")
        (False, True, False)
    """
    if " + " in method:
        source, precoder = method.split(" + ")
        return _is_learned_source(source) or _is_learned_precoder(precoder)
    return method not in BOUNDS and method.removesuffix(f":{STREAM}") not in names(kind="classical")


def is_classical(method: str) -> bool:
    """Registered as classical; of a chain, its CSI."""
    return method.split(" + ")[0] in names(kind="classical")


def _is_learned_source(source: str) -> bool:
    return source not in names(kind=("classical", "bound"))


def _is_learned_precoder(precoder: str) -> bool:
    if precoder in PRECODER_FORMS:
        return precoder == "random-start"
    return precoder not in names("precoder", ("classical", "bound"))


def sources() -> list[str]:
    """CSI of a chain that is not learned, in the order of the tables."""
    roles = ("predictor", "estimator", "beam-tracker", "pilot-reader", "denoiser")
    return [m.name for kind in ("classical", "bound") for role in roles for m in known(role, kind)]


def order(methods: set[str] | list[str]) -> list[str]:
    """Methods in the order of the tables: classical ones first, learned ones, then the bounds; within each kind that of
    the registry. The order of a recipe's ``methods`` does not count."""
    variants = list(VARIANTS)
    precoders = [*names("precoder"), *PRECODER_FORMS]
    classical, csi = names(kind="classical"), sources()

    def place_of_chain(method: str) -> tuple[int, float, float, str]:
        source, precoder = method.split(" + ")
        beams = precoders.index(precoder) if precoder in precoders else len(precoders)
        if method in BOUNDS:
            return (2, BOUNDS.index(method), 0.0, method)
        return (int(is_learned(method)), csi.index(source) if source in csi else 0, beams, method)

    def place(method: str) -> tuple[int, float, float, str]:
        if " + " in method:
            return place_of_chain(method)
        if (name := method.removesuffix(f":{STREAM}")) in classical:
            return (0, classical.index(name), float(name != method), method)
        if method in BOUNDS:
            return (2, BOUNDS.index(method), 0.0, method)
        _, variant, share = parts(method)
        # the start of a learned method stands before it, what was made of it after
        first = {"no-correction": 0, "start": 0, "": 1}
        rank = first.get(variant, 2 + variants.index(variant) if variant in variants else 9)
        return (1, rank, float(share[:-1] or 0) if share else 0.0, method)

    return sorted(set(methods), key=place)


def title(scenario: str) -> str:
    """A recipe's name as a person writes it; of a recipe's file, its name without folders and ending.

    Example:
        >>> title("uma_nlos"), title("channels/umi35.yaml")
        ('UMa NLOS', 'UMi35')
    """
    if scenario.endswith((".yaml", ".yml")):
        scenario = Path(scenario).stem
    words = {
        "uma": "UMa",
        "umi": "UMi",
        "rma": "RMa",
        "inh": "InH",
        "inf": "InF",
        "los": "LOS",
        "nlos": "NLOS",
        "28ghz": "28 GHz",
        "site": "site",
        "rt": "ray-traced",
    }
    parts = [_word(word, words) for word in scenario.split("_") if word]
    return ("-".join(parts) if parts[:1] in (["CDL"], ["TDL"]) else " ".join(parts)) or scenario


def _word(word: str, words: dict[str, str]) -> str:
    """One word of a recipe's name; a number may stand behind a known word."""
    name = word.rstrip("0123456789")
    if word in words:
        return words[word]
    if name in words:
        return words[name] + word[len(name) :]
    return word.upper() if len(word) < 4 else word
