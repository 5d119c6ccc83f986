"""A multi-user OFDM down-link with the LDPC code and the modulation of 5G NR, by Sionna."""

from __future__ import annotations

import torch
from torch import Tensor

from airlam.csi import resolve_inputs
from airlam.interfaces import all_finite


class CodedLink:
    """One transport block a user and slot: LDPC-coded, QAM-mapped, precoded, received among the others' symbols.

    Every user knows the channel of its own beam (from demodulation pilots, taken as exact) and the power of what
    disturbs it; it divides by the one, counts the other as noise, and decodes. The other users' symbols are real QAM
    symbols, not Gaussian noise. The channel holds for a slot.

    Args:
        mcs: index in 3GPP TS 38.214 tables 5.1.3.1-1 to -3, which give modulation order and code rate.
        mcs_table: 1 (up to 64-QAM), 2 (up to 256-QAM), or 3.
        num_subcarriers: that carry data. num_symbols: OFDM symbols of a slot that carry data.
        num_iterations: of belief propagation.

    Raises:
        ValueError: an index without an entry, or blocks longer than one code block (8,448 bits) or shorter than 12.

    Example:
        >>> link = CodedLink(10, num_subcarriers=24)
        >>> link.bits_per_symbol, round(link.rate, 3), link.num_bits
        (4, 0.332, 382)
    """

    def __init__(
        self,
        mcs: int,
        *,
        mcs_table: int = 1,
        num_subcarriers: int = 48,
        num_symbols: int = 12,
        num_iterations: int = 12,
    ):
        from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder
        from sionna.phy.mapping import Constellation, Demapper, Mapper
        from sionna.phy.nr.utils import decode_mcs_index

        if mcs_table not in (1, 2, 3) or not 0 <= mcs <= (27 if mcs_table == 2 else 28):
            raise ValueError(f"mcs is {mcs} of table {mcs_table}, but tables are 1, 2, 3 and indices 0 to 28 (2: 27)")
        if num_subcarriers < 1 or num_symbols < 1 or num_iterations < 1:
            raise ValueError("num_subcarriers, num_symbols and num_iterations must be at least 1")
        order, rate = decode_mcs_index(mcs, table_index=mcs_table, is_pusch=False)
        self.mcs, self.bits_per_symbol, self.rate = mcs, int(order), float(rate)
        self.num_subcarriers, self.num_symbols = num_subcarriers, num_symbols
        coded = num_subcarriers * num_symbols * self.bits_per_symbol
        self.num_bits = int(coded * self.rate)
        if not 12 <= self.num_bits <= 8448:
            raise ValueError(
                f"a block of {num_subcarriers} subcarriers and {num_symbols} symbols holds {self.num_bits} bits, but "
                "one code block takes 12 to 8448; change num_subcarriers or num_symbols"
            )
        self._encode = LDPC5GEncoder(self.num_bits, coded, num_bits_per_symbol=self.bits_per_symbol)
        self._decode = LDPC5GDecoder(self._encode, hard_out=True, num_iter=num_iterations)
        constellation = Constellation("qam", self.bits_per_symbol)
        self._map, self._demap = Mapper(constellation=constellation), Demapper("app", constellation=constellation)

    @property
    def efficiency(self) -> float:
        """Information bits of a resource element, if every block arrives."""
        return self.num_bits / (self.num_subcarriers * self.num_symbols)

    @resolve_inputs
    def block_errors(self, h: Tensor, w: Tensor, no: float, *, generator: torch.Generator | None = None) -> Tensor:
        """Which blocks are lost, ``bool [slot, user]``.

        Args:
            h: true channel ``complex [slot, subcarrier, user, tx_ant]``.
            w: precoder ``complex [slot, subcarrier, tx_ant, user]``.
            no: noise variance.
            generator: of bits and noise.
        """
        for value, name in ((h, "h"), (w, "w")):
            if not isinstance(value, Tensor) or not value.is_complex():
                raise TypeError(f"{name} must be a complex torch.Tensor")
            if not all_finite(value):
                raise ValueError(f"{name} contains NaN or infinity")
        want = (h.shape[0], self.num_subcarriers, h.shape[-1], h.shape[-2])
        if h.dim() != 4 or h.shape[1] != self.num_subcarriers or tuple(w.shape) != want:
            raise ValueError(
                f"h {tuple(h.shape)} must be [slot, subcarrier, user, tx_ant] and w {tuple(w.shape)} [slot, "
                f"subcarrier, tx_ant, user], with {self.num_subcarriers} subcarriers"
            )
        if not 0 < no < float("inf"):
            raise ValueError(f"no must be positive and finite (linear, not dB), got {no}")
        slots, tones, users = h.shape[:3]
        seen = (h @ w).to(torch.complex64)
        bits = torch.randint(2, (slots, users, self.num_bits), generator=generator).float()
        symbols = self._map(self._encode(bits)).reshape(slots, users, self.num_symbols, tones).permute(0, 3, 1, 2)
        white = torch.randn(slots, tones, users, self.num_symbols, 2, generator=generator)
        received = seen @ symbols + (no / 2) ** 0.5 * torch.view_as_complex(white)
        own = seen.diagonal(dim1=-2, dim2=-1)
        own = torch.where(own.abs() > 1e-12, own, torch.full_like(own, 1e-12))
        power = seen.abs().square()
        disturbed = power.sum(-1) - power.diagonal(dim1=-2, dim2=-1) + no
        equalised = received / own[..., None]
        noise = (disturbed / own.abs().square())[..., None].expand(equalised.shape)
        equalised, noise = (x.permute(0, 2, 3, 1).reshape(slots, users, -1) for x in (equalised, noise))
        return (self._decode(self._demap(equalised, noise)) != bits).any(-1)
