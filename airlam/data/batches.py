"""The batches that training and evaluation see, from a store or made on the fly.

A batch is a dict: ``h_past`` (measured), ``h_past_true``, ``h_future`` (true), all ``complex64 [link, slot, subcarrier,
rx_ant, tx_ant]``; ``csi_snr_db``, ``speed``, ``index``, ``drop`` ``[link]``; and, for the batch, ``port_shape``,
``slot_duration``, ``subcarrier_spacing``, ``carrier_frequency``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

from airlam.csi import Impairment, receive
from airlam.data.recipe import SPLITS, block_seed, load_channel
from airlam.data.store import CSIStore
from airlam.data.workers import one_thread
from airlam.seeds import noise_seed

_ORDER = len(SPLITS)  # a key beside the splits' own, for the order of training links


Range = float | list[float]


def draw(value: Range, generator: torch.Generator) -> float:
    """A number from a range [min, max] of non-negative numbers; a single number is returned unchanged.

    Uniform in the logarithm where ``min > 0``. A range that starts at 0 has no logarithm there: uniform.
    """
    low, high = (value[0], value[-1]) if isinstance(value, (list, tuple)) else (value, value)
    if high == 0:
        return 0.0
    share = float(torch.rand((), generator=generator))
    return low * (high / low) ** share if low > 0 else high * share


def draw_impairment(spec: dict[str, Range], generator: torch.Generator) -> Impairment | None:
    """One link's impairments, or None. See ``impairments`` of :class:`airlam.data.CSIDataModule`."""
    if float(torch.rand((), generator=generator)) >= float(spec.get("probability", 1.0)):  # type: ignore[arg-type]
        return None
    drawn = {name: draw(value, generator) for name, value in spec.items() if name != "probability"}
    if drawn.get("bits"):
        drawn["bits"] = max(1, round(drawn["bits"]))
    return Impairment(**drawn)


def measured(
    h: Tensor,
    history: int,
    horizon: int,
    csi_snr_db: Range,
    keys: Sequence[tuple[int, ...]],
    impairments: dict[str, Range] | None = None,
    *,
    slot_duration: float = 0.0,
    subcarrier_spacing: float = 0.0,
) -> dict[str, Tensor]:
    """Splits links into past and future and measures the past.

    Each link has a generator of its own: its SNR and noise depend neither on its neighbours nor on the batch size.

    Args:
        h: true CSI ``[link, slot, subcarrier, rx_ant, tx_ant]`` with at least ``history + horizon`` slots.
        csi_snr_db: one SNR, or a range to draw each link's from.
        keys: key of each link's generator.
        impairments: what a receiver does besides noise, drawn for each link.
        slot_duration, subcarrier_spacing: of ``h``, for the impairments.
    """
    past, future = h[:, :history], h[:, history : history + horizon]
    snr_db, noisy = torch.empty(len(h)), torch.empty_like(past)
    for i, key in enumerate(keys):
        generator = torch.Generator().manual_seed(noise_seed(*key))
        if isinstance(csi_snr_db, (list, tuple)):
            low, high = csi_snr_db[0], csi_snr_db[-1]
            snr_db[i] = low + (high - low) * torch.rand((), generator=generator)
        else:
            snr_db[i] = csi_snr_db
        impairment = draw_impairment(impairments, generator) if impairments else None
        grid = {"slot_duration": slot_duration, "subcarrier_spacing": subcarrier_spacing}
        noisy[i] = receive(past[i], snr_db[i], impairment, generator, **grid)[0]
    return {"h_past": noisy, "h_past_true": past, "h_future": future, "csi_snr_db": snr_db}


class StoredLinks(Dataset):
    """One split of a store with noise that is the same at every reading: validation and test.

    With a ``DataLoader`` use ``collate_fn=as_it_is``: a list of indices gives a whole batch.

    Args:
        count: only the first so many links of the split; ``None``: all.
        impairments: see :class:`airlam.data.CSIDataModule`.
    """

    def __init__(
        self,
        store: CSIStore,
        split: str,
        history: int,
        horizon: int,
        csi_snr_db: Range,
        seed: int,
        count: int | None = None,
        impairments: dict[str, Range] | None = None,
    ) -> None:
        self.store, self.split, self.history, self.horizon = store, split, history, horizon
        self.csi_snr_db, self.seed, self.impairments = csi_snr_db, seed, impairments
        self.first, end = store.splits[split]
        self.length = end - self.first if count is None else count

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        if not -self.length <= index < self.length:
            raise IndexError(f"link {index} is out of range: {self.split} holds {self.length} links")
        return self.__getitems__([index % self.length])

    def __getitems__(self, indices: list[int], epoch: int = 0) -> dict[str, Any]:
        links = [self.first + int(i) for i in indices]
        h = self.store.read(links, self.history + self.horizon)
        keys = [(self.seed, SPLITS.index(self.split), epoch, link) for link in links]
        index = torch.tensor(links, dtype=torch.int64)
        return {
            **measured(
                h,
                self.history,
                self.horizon,
                self.csi_snr_db,
                keys,
                self.impairments,
                slot_duration=self.store.attrs["slot_duration"],
                subcarrier_spacing=self.store.attrs["subcarrier_spacing"],
            ),
            "speed": self.store.truth["speed"][index],
            "velocity": self.store.truth["velocity"][index],
            "position": self.store.truth["position"][index],
            "index": index,
            "drop": self.store.truth["drop"][index],
            "port_shape": self.store.port_shape,
            "slot_duration": self.store.attrs["slot_duration"],
            "subcarrier_spacing": self.store.attrs["subcarrier_spacing"],
            "carrier_frequency": self.store.attrs["carrier_frequency"],
        }


def as_it_is(batch: Any) -> Any:
    """``collate_fn`` for data sets that make whole batches."""
    return batch


class BatchSource(Protocol):
    """A training stream with random access: batch ``number`` is always the same."""

    def batch(self, number: int) -> Any: ...


class StoredBatches:
    """Endless training batches from a split of a store: shuffled anew and measured anew in each pass.

    Batch ``number`` is fixed by the seed: pass ``number // len(self)``, place ``number % len(self)``. The last few
    links of a pass that fill no batch are left out (they are others each time), unless there is but one batch.
    """

    def __init__(self, links: StoredLinks, batch_size: int) -> None:
        self.links, self.batch_size = links, batch_size
        self._order: tuple[int, list[int]] = (-1, [])

    def __len__(self) -> int:
        return max(1, len(self.links) // self.batch_size)

    def batch(self, number: int) -> dict[str, Any]:
        epoch, place = divmod(number, len(self))
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(noise_seed(self.links.seed, _ORDER, epoch))
            self._order = epoch, torch.randperm(len(self.links), generator=generator).tolist()
        chosen = self._order[1][place * self.batch_size : (place + 1) * self.batch_size]
        # Pass 0 of training is not noise 0 of evaluation: the split is part of the key.
        return self.links.__getitems__(chosen, epoch)


class OnTheFly(IterableDataset):
    """Fresh links for every batch, made by the channel model when asked; no file.

    A mixture of different arrays or bands is drawn anew for each batch: they are common to a batch, and differ between
    batches. Batch ``number`` depends on the seed and its number alone, so a resumed run sees the same batches as one
    that was never interrupted. Several loader workers share the stream in turn.

    Args:
        channel: name of a recipe in ``channels/``, a path, the recipe as a dict, or a channel model.
        batch_size: links in a batch.
        history, horizon: slots to predict from, and to predict.
        csi_snr_db: SNR of the measured history, or a range [min, max] to draw each link's from.
        impairments: see :class:`airlam.data.CSIDataModule`.
        seed: of everything.
        split: ``train``, ``val`` or ``test``: separate draws.
        start: number of the first batch.
        num_batches: how many to yield; ``None``: no end.

    Example:
        >>> stream = OnTheFly("uma_nlos", batch_size=4, history=16, horizon=4, seed=1)      # doctest: +SKIP
        >>> next(iter(stream))["h_past"].shape                                              # doctest: +SKIP
        torch.Size([4, 16, 48, 1, 32])
    """

    def __init__(
        self,
        channel: str | Path | dict | Any,
        *,
        batch_size: int = 32,
        history: int = 16,
        horizon: int = 4,
        csi_snr_db: Range = 20.0,
        impairments: dict[str, Range] | None = None,
        seed: int = 0,
        split: str = "train",
        start: int = 0,
        num_batches: int | None = None,
    ) -> None:
        self.model = load_channel(channel) if isinstance(channel, (str, Path, dict)) else channel
        self.batch_size, self.history, self.horizon = batch_size, history, horizon
        self.csi_snr_db, self.impairments, self.seed, self.split = csi_snr_db, impairments, seed, split
        self.start, self.num_batches = start, num_batches

    def batch(self, number: int) -> dict[str, Any]:
        """Batch ``number``, always the same."""
        seed = block_seed(self.seed, self.split, number)
        with one_thread():
            # A mixture of one shape mixes within the batch; any other one is drawn for the whole batch.
            model = self.model if getattr(self.model, "stackable", True) else self.model.draw(seed)
            per_drop = int(model.recipe.get("links_per_drop", 1))
            whole = -(-self.batch_size // per_drop) * per_drop
            links = model.sample(whole, self.history + self.horizon, seed=seed)[: self.batch_size]
        first = number * self.batch_size
        keys = [(self.seed, SPLITS.index(self.split), 0, first + i) for i in range(len(links))]
        return {
            **measured(
                links.h,
                self.history,
                self.horizon,
                self.csi_snr_db,
                keys,
                self.impairments,
                slot_duration=float(links.slot_duration),
                subcarrier_spacing=float(links.subcarrier_spacing),
            ),
            "speed": links.speed.float(),
            "velocity": links.velocity.float(),
            "position": links.position.float(),
            "index": first + torch.arange(len(links)),
            "drop": first + torch.unique(links.drop, return_inverse=True)[1],
            "port_shape": tuple(links.port_shape),
            "slot_duration": float(links.slot_duration),
            "subcarrier_spacing": float(links.subcarrier_spacing),
            "carrier_frequency": float(links.carrier_frequency),
        }

    def __iter__(self) -> Iterator[dict[str, Any]]:
        end = None if self.num_batches is None else self.start + self.num_batches
        worker = get_worker_info()
        mine, step = (worker.id, worker.num_workers) if worker else (0, 1)
        numbers = itertools.count(self.start + mine, step)
        for number in numbers if end is None else itertools.takewhile(lambda n: n < end, numbers):
            yield self.batch(number)


class KeptBatches(Dataset):
    """The first links of a stream, made once and kept in memory: evaluation on mixtures that fit into no store."""

    def __init__(self, stream: OnTheFly, num_links: int) -> None:
        full, rest = divmod(num_links, stream.batch_size)
        self.batches = [stream.batch(number) for number in range(full)]
        if rest:
            last = stream.batch(full)
            self.batches.append({k: v[:rest] if isinstance(v, Tensor) else v for k, v in last.items()})

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.batches[index]


class RepeatedBatches:
    """A stream whose batches come several times: in blocks, each gone through ``passes`` times, each time shuffled.

    For what is costly to prepare and can be kept for the length of a block.
    """

    def __init__(self, source: BatchSource, block: int, passes: int, seed: int) -> None:
        if block < 1 or passes < 1:
            raise ValueError(f"block and passes must be at least 1, got {block}, {passes}")
        self.source, self.block, self.passes, self.seed = source, block, passes, seed

    def batch(self, number: int) -> dict[str, Any]:
        block, rest = divmod(number, self.block * self.passes)
        turn, place = divmod(rest, self.block)
        generator = torch.Generator().manual_seed(noise_seed(self.seed, _ORDER, block, turn))
        order = torch.randperm(self.block, generator=generator)
        return self.source.batch(block * self.block + int(order[place]))


class PreparedBatches:
    """A stream of what ``prepare`` makes of each batch of another one."""

    def __init__(self, source: BatchSource, prepare: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.source, self.prepare = source, prepare

    def batch(self, number: int) -> dict[str, Any]:
        return self.prepare(self.source.batch(number))


class _ByNumber(Dataset):
    """A source as a data set that is indexed by batch number."""

    def __init__(self, source: BatchSource) -> None:
        self.source = source

    def __getitem__(self, number: int) -> dict[str, Any]:
        return self.source.batch(number)


class TrainLoader:
    """Iterates over a batch source epoch by epoch, knows how far it came, and goes on there.

    Each ``iter()`` is one epoch of ``batches_per_epoch`` batches. After :meth:`load_state_dict` the first one finishes
    the epoch that was interrupted. With several processes (DDP) each takes its share of every epoch.

    Args:
        source: where batches come from.
        batches_per_epoch: of all processes together.
        num_workers: loader processes (spawned; kept between epochs); 0 makes batches in this process.

    Attributes:
        position: batches that this process has handed out since the beginning of training.
    """

    def __init__(self, source: BatchSource, batches_per_epoch: int, num_workers: int = 0) -> None:
        self.source, self.num_workers = source, num_workers
        self.rank, self.world = 0, 1
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.length = max(1, batches_per_epoch // self.world)
        self.position = 0
        self._resumed = False
        self._stream: tuple[int, Iterator[dict[str, Any]]] | None = None

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        # An epoch that was cut short (limit_train_batches) is over; one that a checkpoint interrupted is not.
        if self.position % self.length and not self._resumed:
            self.position += self.length - self.position % self.length
        self._resumed = False
        while True:
            batch = self._next()
            self.position += 1
            yield batch
            if self.position % self.length == 0:
                return

    def _next(self) -> dict[str, Any]:
        if not self.num_workers:
            return self.source.batch(self._number(self.position))
        if self._stream is None or self._stream[0] != self.position:
            numbers = map(self._number, itertools.count(self.position))
            loader = DataLoader(
                _ByNumber(self.source),
                batch_size=None,
                collate_fn=as_it_is,  # torch's default makes a list of port_shape
                sampler=numbers,  # type: ignore[arg-type]  # any iterable will do
                num_workers=self.num_workers,
                multiprocessing_context="spawn",  # importing Sionna may start CUDA
            )
            self._stream = self.position, iter(loader)
        stream = self._stream[1]
        self._stream = self.position + 1, stream
        return next(stream)

    def _number(self, position: int) -> int:
        """Processes take batches in turn: together they see the stream as one process would."""
        return position * self.world + self.rank

    def state_dict(self) -> dict[str, int]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.position, self._resumed = int(state["position"]), True
