"""Whole chains of one cell: streams of the users of a group and their precoder, judged and timed as they would run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from airlam.channels import LinkBatch
from airlam.evaluation.benchmarks.realtime.config import RealtimeArguments
from airlam.evaluation.benchmarks.realtime.streams import Judged, Tuner
from airlam.evaluation.engine.cell import Cell
from airlam.evaluation.engine.contenders import context_of, size
from airlam.evaluation.engine.measure import new_record
from airlam.evaluation.engine.spectral_efficiency import group_users
from airlam.evaluation.latency.reference import REFERENCE, reference_predict
from airlam.evaluation.latency.streams import replayed
from airlam.evaluation.results import SE, CellRecord, MethodFacts, Series, group_of
from airlam.loading import load_precoder
from airlam.metrics import sum_rate
from airlam.realtime import Engine, FastPrecoder, Group, Memory, State, engine_for
from airlam.realtime.window import Window

PUSHED = 128  # slots that a group takes before it is judged, if its filters are as old
PERFECT_ROUNDS = 30  # of WMMSE from perfect CSI


@dataclass
class Chain:
    """``"paths + robust rzf"``: what predicts, and the precoder: ``rzf`` or ``wmmse``, which may be ``robust``, or a
    learned one."""

    name: str

    @property
    def source(self) -> str:
        return self.name.partition(" + ")[0]

    @property
    def precoder(self) -> str:
        return self.name.partition(" + ")[2].removeprefix("robust ")

    @property
    def robust(self) -> bool:
        return self.precoder != self.name.partition(" + ")[2] or not self.fast

    @property
    def fast(self) -> bool:
        """Whether the precoder runs in the stream."""
        return self.precoder in ("rzf", "wmmse")


def learned_precoders(config: RealtimeArguments) -> dict[str, Any]:
    """Those of the chains that are no streams, by name."""
    chains = [Chain(name) for name in config.chains.names if config.chains.users]
    return {chain.precoder: load_precoder(chain.precoder) for chain in chains if not chain.fast}


class Chains:
    """All chains of one cell, for links of it.

    Args:
        h: true ``complex64 [link, slot, subcarrier, rx_ant, tx_ant]``; past: what was measured of its history.
    """

    def __init__(
        self, config: RealtimeArguments, cell: Cell, links: LinkBatch, past: Tensor, models: dict[str, Any]
    ) -> None:
        self.config, self.cell, self.links, self.past = config, cell, links, past
        self.names = [Chain(name) for name in config.chains.names]
        self.no, self.slots = 10 ** (-cell.headline_snr_db / 10), config.chains.horizon
        self.tune = Tuner(config, cell, links.port_shape, context_of(links))
        self.models, self.learned = models, learned_precoders(config)
        self._engines: dict[str, tuple[Engine, MethodFacts]] = {}
        self._found: dict[str, list[Memory]] = {}

    def engine(self, name: str) -> Engine:
        """Of a predictor by name, tuned."""
        if name not in self._engines:
            found = self.tune.streamed(self.models[name], self.tune(self.models[name]))
            options = self.config.streaming.options.get(name, {})
            options = {"history": self.config.sizes.history, "port_shape": self.links.port_shape, **options}
            shape: Any = tuple(self.past.shape[2:])
            made = engine_for(found[0], shape, self.slots, **options)
            self._engines[name] = made, MethodFacts(found[1], size(found[0]), 0, 0.0)
        return self._engines[name][0]

    def group(self, chain: Chain, users: int, serve: int | None = None) -> Group:
        """The chain's group, before its first slot."""
        return Group(
            self.engine(chain.source),
            users,
            no=self.no,
            refresh_every=10**9,
            serve=None if serve is None else range(serve),
            trust=self.config.chains.trust if chain.robust else 0.0,
            rounds=self.config.chains.rounds if chain.precoder == "wmmse" else 0,
        )

    # -- rates -----------------------------------------------------------------------------------------------------

    def judge(self) -> CellRecord:
        """Sum-SE of every group of users at each slot after the newest measured one."""
        groups = {users: group_users(self.links.drop, users) for users in self.config.chains.users}
        record = new_record(self.cell, self.links, groups)
        for chain in self.names:
            for users, found in groups.items():
                steps = torch.stack([self._steps(chain, members) for members in found.users])
                axis = list(map(float, range(steps.shape[1])))
                record.add(Series(chain.name, "sum_se_steps", SE, steps, group_of(users), axis, "slot"))
            facts = self._engines.get(chain.source)
            record.methods[chain.name] = MethodFacts({}, 0, 0, 0.0) if facts is None else facts[1]
        return record

    def _steps(self, chain: Chain, members: Tensor) -> Tensor:
        """Sum-SE of one group, ``[slot]``."""
        truth = self.links.h[members, self.cell.history :, :: self.cell.tone_step, 0].permute(1, 2, 0, 3)
        w = self._beams(chain, members)[:, :: self.cell.tone_step]
        held = torch.arange(len(truth)).clamp(max=len(w) - 1)  # beams of the last one serve later slots
        return sum_rate(truth, w[held], self.no).mean(1)

    def _beams(self, chain: Chain, members: Tensor) -> Tensor:
        if chain.source in ("perfect", REFERENCE):
            if chain.source == "perfect":
                future = self.links.h[members, self.cell.history :]
            else:
                history = self.past[members, -self.config.sizes.history :]
                future = reference_predict()(history, self.config.horizon, self.links.port_shape)
            rounds = PERFECT_ROUNDS if chain.precoder == "wmmse" else 0
            return torch.from_numpy(FastPrecoder(no=self.no, rounds=rounds).precode(future.numpy()))
        group = self.group(chain, len(members))
        for stream, link in zip(group.streams, members.tolist(), strict=True):
            stream.state = self.grown(chain.source, link)
        pushed = self.pushed(chain.source)
        for left, slots in zip(range(pushed)[::-1], self.past[members, -pushed:].transpose(0, 1).numpy(), strict=True):
            if left % self.config.csi_period:
                group.take(slots)
            else:
                w = group.push(slots)
        return torch.from_numpy(w) if chain.fast else self.learned_beams(chain, group)

    def pushed(self, name: str) -> int:
        """Slots that a group of this predictor takes before it is judged."""
        return min(PUSHED, 2 * self.config.refresh_of(name))

    def learned_beams(self, chain: Chain, group: Group) -> Tensor:
        """Of a learned precoder, from the group's newest predictions and the errors that the group knows."""
        h = torch.from_numpy(group.future[group.serve, :, :, 0]).transpose(1, 2)  # [slot, tone, user, tx_ant]
        spread = torch.from_numpy(np.stack([errors.spread(group.serve) for errors in group.errors], 1))
        spread = (group.trust * spread)[:, None].expand(*h.shape, h.shape[-1])
        return self.learned[chain.precoder].precode(h, 1.0, self.no, error_covariance=spread)

    def grown(self, name: str, link: int) -> State:
        """A stream, :meth:`pushed` slots before the end, with the filters that are the oldest at the end."""
        engine, slots, pushed = self.engine(name), self.past.numpy(), self.pushed(name)
        if name not in self._found:
            judged = Judged(engine, self.config.refresh_of(name))
            end = slots.shape[1] - 2 * judged.refresh_slots
            self._found[name] = [judged.found(of_link, end) for of_link in slots]
        state = State.of(engine)
        window = Window(state)
        for slot in slots[link, -pushed - engine.history : -pushed]:
            window.measured(slot)
        state.window, state.memory, state.unseen = window.slots, self._found[name][link], engine.history
        return state

    # -- latency ---------------------------------------------------------------------------------------------------

    def calls(self, users: int) -> dict[str, Callable[[], object]]:
        """What is timed of every chain, by ``chain|users|part``.

        Parts: ``whole``: a group takes the slots of a CSI period, and makes beams for as many after the last;
        ``take``: it takes one of them; ``beams``: the precoder alone.
        """
        found: dict[str, Callable[[], object]] = {}
        for chain in self.names:
            if chain.source != "perfect":
                made = self._reference(users) if chain.source == REFERENCE else self._timed(chain, users)
                found |= {f"{chain.name}|{users}|{part}": call for part, call in made.items()}
        return found

    def _timed(self, chain: Chain, users: int) -> dict[str, Callable[[], object]]:
        period = self.config.csi_period
        slots = self.past[:users].transpose(0, 1).contiguous().numpy()
        (group, later), (taking, taken) = (self._running(chain, slots) for _ in range(2))
        out = np.empty((period, *group.engine.shape[::2], users), np.complex64)

        def beams() -> object:
            return group.beams(out) if chain.fast else self.learned_beams(chain, group)

        def whole() -> None:
            for _ in range(period - 1):
                group.take(next(later))
            group.push(next(later), out=out)
            if not chain.fast:
                self.learned_beams(chain, group)

        return {"whole": whole, "take": lambda: taking.take(next(taken)), "beams": beams}

    def _running(self, chain: Chain, slots: np.ndarray) -> tuple[Group, Iterator[np.ndarray]]:
        """A group whose errors are known, and the slots ``[slot, user, ...]`` that follow, one by one."""
        history, first = self.config.sizes.history, 4 * self.slots
        group = self.group(chain, slots.shape[1], self.config.csi_period)
        for user, stream in enumerate(group.streams):
            stream.start(slots[:history, user])
        for each in slots[history : history + first]:
            group.push(each)
        return group, replayed(group, slots[history + first :])

    def _reference(self, users: int) -> dict[str, Callable[[], object]]:
        predict, precoder = reference_predict(), FastPrecoder(no=self.no)
        past, horizon = self.past[:users, -self.config.sizes.history :], self.config.sizes.horizon
        shape = self.links.port_shape

        def whole() -> None:
            future = [predict(past[i : i + 1], horizon, shape) for i in range(users)]
            precoder.precode(torch.cat(future).numpy())

        h = predict(past, horizon, shape).numpy()
        return {"whole": whole, "beams": lambda: precoder.precode(h)}
