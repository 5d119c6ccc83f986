"""The section ``adapter`` of a parallel training: what is trained instead of all weights."""

from __future__ import annotations

from dataclasses import dataclass

from airlam.recipes import check_choice, check_number

KINDS = ("lora", "parallel")
FORMS = ("attention", "units")
MAX_RANK = 1024


@dataclass(frozen=True)
class Adapter:
    """Args:
        kind: ``lora`` (low-rank updates inside of the frozen backbone) or ``parallel`` (a narrow network beside it,
            :mod:`airlam.models.parallel_adapter`).
        rank: of the updates, or width of the narrow network.
        form: of the narrow network's blocks, ``attention`` or ``units``; lora has none.
        cache: keep what the first epoch computed of each link: its tokens, and with ``parallel`` the backbone's hidden
            states, so that the backbone no longer runs. The measured histories are then the same in each epoch; without
            a cache their noise is fresh.
        cache_folder: where; None: ``cache`` in the run's folder. One that several runs name serves them all.

    Raises:
        RecipeError: a value that does not exist or is out of bounds.
    """

    kind: str = "parallel"
    rank: int = 32
    form: str = "attention"
    cache: bool = True
    cache_folder: str | None = None

    def __post_init__(self) -> None:
        check_choice("adapter.kind", self.kind, KINDS)
        check_choice("adapter.form", self.form, FORMS)
        check_number("adapter.rank", self.rank, 1, MAX_RANK, integer=True)
