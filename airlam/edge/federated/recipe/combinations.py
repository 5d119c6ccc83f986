"""Arguments of a federated recipe that do not go together, each with the reason and what to take instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airlam.errors import RecipeError


def check_combinations(federation: Any) -> None:
    """Refuse what cannot run together, in a whole :class:`~airlam.edge.federated.recipe.federation.Federation`.

    Raises:
        RecipeError: two arguments exclude each other.
    """
    for check in CHECKS:
        if why := check(federation):
            raise RecipeError(why)


def adapters_and_weights(f: Any) -> str | None:
    """Schemes and ranks are of adapters alone; a scheme that averages products needs a plain mean."""
    lora, strategy = f.lora_rank is not None, f.server_strategy
    if lora and f.scheme.averages_products and not strategy.plain_mean:
        return (
            f"aggregation is {f.aggregation!r}, which averages products by itself, so {f.strategy!r} would "
            "never see them; take ffa (exact with any strategy), or strategy fedavg or fedprox"
        )
    if not lora and any(site.lora_rank for site in f.site_specs):
        return "a site has a lora_rank, but the run has none (null: all weights); give it one"
    return None


def split_training(f: Any) -> str | None:
    """Split mode trains adapters of a channel predictor, and nothing may change what crosses the link."""
    if not f.split:
        return None
    if f.lora_rank is None or isinstance(f.model, dict) or f.task != "prediction":
        return "mode split needs adapters (lora_rank), a backbone (no comparator), and task prediction"
    if f.scheme.changes_weights or f.attacker or f.protection:
        return "mode split takes aggregation naive, ffa or svd, and neither attack nor privacy"
    if f.server_strategy.changes_training:
        return "mode split has no proximal term; take strategy fedavg"
    return None


def model_and_task(f: Any) -> str | None:
    """Comparators have no adapters; the beamforming task needs a precoder in single precision."""
    if f.lora_rank is not None and isinstance(f.model, dict):
        return "a comparator starts from random weights, so all of them must be trained: lora_rank null"
    if f.task == "beamforming" and isinstance(f.model, dict):
        return "task beamforming needs a precoder's checkpoint, like airlam-precoder"
    if f.precision == "bfloat16" and f.task == "beamforming":
        return "precision bfloat16 is for task prediction; beamforming trains in float32"
    return None


def ranks(f: Any) -> str | None:
    """Strategies that compare entries need adapters of one rank."""
    if len({f.rank_of(site) for site in f.site_specs}) > 1 and f.server_strategy.compares_entries:
        return (
            f"strategy {f.strategy} compares entries, and adapters of smaller ranks are padded with zeros: give "
            "all sites the same lora_rank, or take fedavg"
        )
    return None


def secure_aggregation(f: Any) -> str | None:
    """Only the sum of the updates is known: no scheme, strategy or defence that needs single ones."""
    if not f.secure_aggregation:
        return None
    one_shape = f.lora_rank is not None and len({f.rank_of(site) for site in f.site_specs}) == 1
    plain = f.server_strategy.plain_mean and not f.server_strategy.changes_training
    if not one_shape or f.scheme.averages_products or not plain or f.split:
        return (
            "secure_aggregation sums arrays of one shape with values within +-8: take adapters (lora_rank), "
            "strategy fedavg, aggregation ffa (exact) or naive, the same lora_rank everywhere, and mode local"
        )
    if len(f.site_specs) < 3 or f.server_strategy.arguments or f.evaluate_every != 1:
        return (
            "secure_aggregation needs three sites or more (from the sum of two, each knows the other's update), no "
            "strategy_args, and evaluate_every 1"
        )
    if f.participation.policy != "all":
        return "secure_aggregation takes all devices in every round: leave selection out"
    if f.attacker or f.dropout or f.max_update_norm or f.protection:
        return (
            "with secure_aggregation the server sees sums alone: it can neither reject an update nor know who was "
            "lost; leave attack, dropout, privacy and max_update_norm out"
        )
    return None


def eight_bits(f: Any) -> str | None:
    """Eight bits are for adapters that the server reads one by one."""
    if f.wire == "float32":
        return None
    if f.lora_rank is None:
        return "wire int8 is for adapters, matrices of a rank: give lora_rank, or take wire float32 for all weights"
    if f.split:
        return "wire int8 rounds adapters, and what mode split sends is nearly all activations: take wire float32"
    if f.secure_aggregation:
        return (
            "secure_aggregation sums masked integers of one common scale, and with wire int8 each device has scales of "
            "its own: take wire float32"
        )
    return None


CHECKS: tuple[Callable[[Any], str | None], ...] = (
    adapters_and_weights,
    split_training,
    model_and_task,
    ranks,
    secure_aggregation,
    eight_bits,
)
