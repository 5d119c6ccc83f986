"""Which cells the benchmark of channel prediction consists of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from airlam.channels import load_channel
from airlam.evaluation.benchmarks.channel_prediction.config import OWN, ChannelPredictionArguments
from airlam.evaluation.engine.cell import Cell


def cells_of(arguments: ChannelPredictionArguments, methods: Sequence[str]) -> list[Cell]:
    """Every cell, in the order in which they run: the headline first."""
    plan = CellPlan(arguments, methods)
    return [
        *plan.headline(),
        *plan.sweep(),
        *plan.age(),
        *plan.csi_periods(),
        *plan.held_out(),
        *plan.impairments(),
        *plan.odd(),
    ]


class CellPlan:
    """Makes the cells of each table from the arguments; all that two cells have in common stands in :meth:`_cell`."""

    def __init__(self, arguments: ChannelPredictionArguments, methods: Sequence[str]):
        self.arguments, self.methods = arguments, tuple(methods)
        self.first = arguments.cells.scenarios[0]
        # cells beside the headline: no genies, one group size, one SNR
        self.side: dict[str, Any] = dict(
            methods=tuple(method for method in self.methods if not method.startswith("genie")),
            users=arguments.rates.users[:1],
            transmit_snr_db=(arguments.rates.headline_snr_db,),
        )

    def _cell(self, group: str, data: str, speed: float, snr: float | None = None, **fields: Any) -> Cell:
        """A cell; ``recipe`` among the fields holds keys that replace those of the channel's recipe."""
        sizes, rates, headline = self.arguments.sizes, self.arguments.rates, self.arguments.cells
        known = load_channel(data).recipe
        overrides = {"speed_kmh": speed, **headline.channel_overrides, **fields.pop("recipe", {})}
        if rates.users and "links_per_drop" in known:
            overrides["links_per_drop"] = sizes.links_per_drop
        values: dict[str, Any] = dict(
            group=group,
            data=data,
            recipe=load_channel({**known, **overrides}).recipe,
            speed_kmh=float(speed),
            csi_snr_db=float(headline.csi_snr_db if snr is None else snr),
            num_links=sizes.side_links,
            num_tune=sizes.num_tune if fields.get("headline") else min(sizes.num_tune, sizes.side_links),
            history=sizes.history,
            horizon=sizes.horizon,
            num_future=sizes.horizon,
            methods=self.methods,
            users=rates.users,
            transmit_snr_db=rates.transmit_snr_db,
            headline_snr_db=rates.headline_snr_db,
            tone_step=rates.tone_step,
            seed=self.arguments.seed,
            convention="" if self.arguments.convention == OWN or group != "cell" else self.arguments.convention,
        )
        return Cell(**(values | fields))

    def headline(self) -> Iterator[Cell]:
        """Every scenario at every speed. One speed of the first scenario is timed."""
        cells, age = self.arguments.cells, self.arguments.age
        timed_speed = age.speed_kmh if age.speed_kmh in cells.speeds_kmh else cells.speeds_kmh[-1]
        for data in cells.scenarios:
            for speed in cells.speeds_kmh:
                yield self._cell(
                    "cell",
                    data,
                    speed,
                    num_links=self.arguments.sizes.num_links,
                    headline=True,
                    timed=data == self.first and speed == timed_speed,
                    path_loss=bool(self.arguments.rates.users) and speed == timed_speed,
                )

    def sweep(self) -> Iterator[Cell]:
        """Further SNRs of the history; cells of the headline are left out."""
        cells, sweep = self.arguments.cells, self.arguments.sweep
        for data in [self.first] if sweep.scenarios is None else sweep.scenarios:
            for speed in sweep.speeds_kmh:
                for snr in sweep.csi_snr_db:
                    if not (snr == cells.csi_snr_db and speed in cells.speeds_kmh and data in cells.scenarios):
                        yield self._cell("cell", data, speed, snr)

    def age(self) -> Iterator[Cell]:
        """One cell with enough future slots for a prediction that comes 10 ms late."""
        age = self.arguments.age
        if age.speed_kmh is None or not self.arguments.rates.users:
            return
        slots = round(10e-3 / load_channel(self.first).slot_duration) + self.arguments.sizes.horizon - 1
        future = {"horizon": age.horizon, "num_future": max(slots, age.horizon)}
        yield self._cell("age", self.first, age.speed_kmh, timed=True, **future, **self.side)

    def csi_periods(self) -> Iterator[Cell]:
        """One cell for each time between two measurements; one slot is predicted."""
        periods = self.arguments.periods
        for period in periods.periods_ms if self.arguments.rates.users else ():
            recipe = {"slot_duration": 1e-3 * period}
            fields: dict[str, Any] = {"horizon": 1, "num_future": 1, "recipe": recipe, **self.side}
            yield self._cell("csi_period", self.first, periods.speed_kmh, **fields)

    def held_out(self) -> Iterator[Cell]:
        """Channels that the model never saw in pretraining, with all methods."""
        held_out = self.arguments.held_out
        for label, keys in held_out.channels.items():
            recipe = {key: value for key, value in keys.items() if key != "channel"}
            for speed in held_out.speeds_kmh:
                fields: dict[str, Any] = {"num_links": held_out.num_links, "recipe": recipe, "label": label}
                yield self._cell("held_out", keys["channel"], speed, **fields)

    def impairments(self) -> Iterator[Cell]:
        """One cell for each kind of impaired history."""
        impairments = self.arguments.impairments
        for label, kind in impairments.kinds.items():
            fields: dict[str, Any] = {"impairment": dict(kind), "label": label, **self.side}
            yield self._cell("impairments", self.first, impairments.speed_kmh, **fields)

    def odd(self) -> Iterator[Cell]:
        """One cell for each kind of input that is unlike the headline's."""
        odd = self.arguments.odd
        for label, keys in odd.cells.items():
            recipe = {key: value for key, value in keys.items() if key not in ("channel", "history", "impairment")}
            fields: dict[str, Any] = {"num_links": odd.num_links, "recipe": recipe, "label": label, **self.side}
            fields |= {"users": (), "history": keys.get("history", self.arguments.sizes.history)}
            fields |= {"impairment": dict(keys["impairment"])} if "impairment" in keys else {}
            yield self._cell("odd", keys["channel"], keys["speed_kmh"], **fields)


def cost(cell: Cell) -> float:
    """Rough share of a cell in the whole run, for the estimate of the time left."""
    genies = 4 * sum(method.startswith("genie") for method in cell.methods)
    return cell.num_links * (len(cell.methods) + genies) * (2 if cell.group == "age" else 1) + 4 * cell.num_tune
