"""Parts of a federated recipe: privacy, selection, attack; each a frozen dataclass with its checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from airlam.edge.selection import POLICIES
from airlam.errors import RecipeError
from airlam.recipes import as_number, check_choice, check_keys, check_positive

ATTACKS = ("sign_flip", "noise", "nan", "shape", "huge")
T = TypeVar("T")


@dataclass(frozen=True)
class Privacy:
    """Clipping and Gaussian noise on what leaves a device.

    Attributes:
        clip: largest L2 norm of an update. noise_multiplier: standard deviation of the noise over ``clip``.
        delta: at which epsilon is computed. noise_seed: of the noise, None: drawn by the system.
    """

    clip: float
    noise_multiplier: float
    delta: float = 1e-5
    noise_seed: int | None = None


@dataclass(frozen=True)
class Selection:
    """Who takes part in a round.

    Attributes:
        policy: one of :data:`airlam.edge.selection.POLICIES`. devices: how many in a round.
        max_age: rounds after which a device must take part (policy fastest). max_joules: of a device in a round (policy
            fastest). Both None: no bound.
    """

    policy: str
    devices: int
    max_age: float | None = None
    max_joules: float | None = None


@dataclass(frozen=True)
class Attack:
    """Poisoned updates, to try defences on.

    Attributes:
        sites: labels of the attackers. kind: one of :data:`ATTACKS`, see :mod:`airlam.edge.federated.client.attacks`.
        scale: of kinds sign_flip and noise.
    """

    sites: tuple[str, ...]
    kind: str = "sign_flip"
    scale: float = 5.0


def read_privacy(given: Any) -> Privacy:
    """The recipe's ``privacy``.

    Raises:
        RecipeError: a key or value that does not exist or is out of bounds.
    """
    if not isinstance(given, Mapping) or not given:
        raise RecipeError(
            f"privacy is {given!r}, but must be {{clip: ..., noise_multiplier: ...}}, or null: without privacy"
        )
    check_keys("privacy", given, Privacy.__annotations__)
    made = {"delta": Privacy.delta, "noise_seed": None, **given}
    for name in ("clip", "noise_multiplier", "delta"):
        made[name] = check_positive(f"privacy.{name}", made.get(name))
    if not made["delta"] < 1:
        raise RecipeError(f"privacy.delta is {made['delta']!r}, but must lie between 0 and 1")
    if made["noise_seed"] is not None:
        check_whole("privacy.noise_seed", made["noise_seed"], 0, ", or null")
    return Privacy(**made)


def read_selection(given: Mapping[str, Any], num_sites: int) -> Selection:
    """The recipe's ``selection``; the default is all sites.

    Raises:
        RecipeError: a key or value that does not exist, is out of bounds, or means nothing to the policy.
    """
    check_keys("selection", given, Selection.__annotations__)
    policy = check_choice("selection.policy", given.get("policy", "all"), tuple(POLICIES))
    for key in given:
        if key in {"max_age", "max_joules"} and policy != "fastest" or key == "devices" and policy == "all":
            raise RecipeError(f"selection.{key} means nothing to policy {policy}; leave it out")
    bounds = {key: check_positive(f"selection.{key}", given[key]) for key in ("max_age", "max_joules") if key in given}
    count = given.get("devices", num_sites)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= num_sites:
        raise RecipeError(f"selection.devices is {count!r}, but must be 1 to {num_sites}, the sites")
    return Selection(policy, count, **bounds)


def read_attack(given: Any, labels: list[str]) -> Attack:
    """The recipe's ``attack`` on sites with ``labels``.

    Raises:
        RecipeError: a key or value that does not exist or is out of bounds.
    """
    if not isinstance(given, Mapping):
        raise RecipeError(f"attack is {given!r}, but must be a mapping like {{sites: [street], kind: nan}}")
    check_keys("attack", given, Attack.__annotations__)
    made = {"kind": Attack.kind, "scale": Attack.scale, **given}
    check_choice("attack.kind", made["kind"], ATTACKS)
    if not isinstance(made.get("sites"), list) or not made["sites"]:
        raise RecipeError(f"attack.sites is {made.get('sites')!r}, but must be a list of the attackers' labels")
    for label in made["sites"]:
        check_choice("attack.sites", label, labels)
    return Attack(tuple(made["sites"]), made["kind"], check_positive("attack.scale", made["scale"]))


def check_whole(name: str, value: Any, low: int, more: str = "") -> int:
    """A whole number of at least ``low``.

    Raises:
        RecipeError: it is something else; ``more`` is appended to the bound.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise RecipeError(f"{name} is {value!r}, but must be a whole number of at least {low}{more}")
    return value


def made_of(kind: type[T], given: Any, name: str) -> T:
    """A named tuple or dataclass from a recipe's mapping.

    Raises:
        RecipeError: it is no mapping, or has a key that does not exist.
    """
    if not isinstance(given, Mapping):
        raise RecipeError(f"{name} is {given!r}, but must be a mapping with {', '.join(kind.__annotations__)}")
    check_keys(name, given, kind.__annotations__.keys())
    return kind(**{key: as_number(value) for key, value in given.items()})
