"""Arithmetic coding with integers alone: what one machine writes, every other reads."""

from __future__ import annotations

from collections.abc import Sequence

PRECISION = 32  # bits of low and range
TOP, HALF, QUARTER = (1 << PRECISION) - 1, 1 << (PRECISION - 1), 1 << (PRECISION - 2)
LARGEST_TOTAL = 1 << 24  # of frequencies: far below QUARTER, so that no symbol gets an empty interval


class ArithmeticWriter:
    """Writes symbols of given integer frequencies (Witten and others, Arithmetic coding for data compression, 1987).

    Example:
        >>> writer = ArithmeticWriter()
        >>> for symbol in (2, 0, 1):
        ...     writer.write([1, 2, 5], symbol)
        >>> reader = ArithmeticReader(writer.finish())
        >>> [reader.read([1, 2, 5]) for _ in range(3)]
        [2, 0, 1]
    """

    def __init__(self) -> None:
        self.low, self.high, self.pending = 0, TOP, 0
        self.bits: list[int] = []

    def write(self, frequencies: Sequence[int], symbol: int) -> None:
        """Write one symbol; ``frequencies`` are positive integers, one for each value."""
        before = sum(frequencies[:symbol])
        self.write_range(before, before + frequencies[symbol], before + sum(frequencies[symbol:]))

    def write_range(self, start: int, end: int, total: int) -> None:
        """Write the part ``start`` to ``end`` of ``total``."""
        width = self.high - self.low + 1
        self.low, self.high = self.low + width * start // total, self.low + width * end // total - 1
        while True:
            if self.high < HALF:
                self._put(0)
            elif self.low >= HALF:
                self._put(1)
                self.low, self.high = self.low - HALF, self.high - HALF
            elif self.low >= QUARTER and self.high < HALF + QUARTER:
                self.pending += 1
                self.low, self.high = self.low - QUARTER, self.high - QUARTER
            else:
                return
            self.low, self.high = 2 * self.low, 2 * self.high + 1

    def finish(self) -> list[int]:
        """All bits; a reader that reads zeros behind them finds every symbol."""
        if self.low > 0 or self.pending:  # else zeros follow anyway
            if self.low <= 0:
                self._put(0)
            elif self.low <= HALF <= self.high:
                self._put(1)
            else:  # the value QUARTER, 2 or 3 quarters lies inside
                self.pending += 1
                self._put(int(self.low > QUARTER))
        return self.bits

    def _put(self, bit: int) -> None:
        self.bits.append(bit)
        self.bits += [1 - bit] * self.pending
        self.pending = 0


class ArithmeticReader:
    """Reads what :class:`ArithmeticWriter` wrote; behind the last bit it reads zeros."""

    def __init__(self, bits: Sequence[int]):
        self.bits, self.at = bits, PRECISION
        self.low, self.high = 0, TOP
        self.value = int("".join(map(str, [*bits[:PRECISION], *[0] * (PRECISION - len(bits))])), 2)

    def read(self, frequencies: Sequence[int]) -> int:
        """The next symbol."""
        total = sum(frequencies)
        place = ((self.value - self.low + 1) * total - 1) // (self.high - self.low + 1)
        start = symbol = 0
        while start + frequencies[symbol] <= place:
            start += frequencies[symbol]
            symbol += 1
        self._narrow(start, start + frequencies[symbol], total)
        return symbol

    def read_uniform(self, values: int) -> int:
        """The next symbol of ``values`` equally frequent ones."""
        symbol = ((self.value - self.low + 1) * values - 1) // (self.high - self.low + 1)
        self._narrow(symbol, symbol + 1, values)
        return symbol

    def _narrow(self, start: int, end: int, total: int) -> None:
        width = self.high - self.low + 1
        self.low, self.high = self.low + width * start // total, self.low + width * end // total - 1
        while True:
            if self.high < HALF:
                offset = 0
            elif self.low >= HALF:
                offset = HALF
            elif self.low >= QUARTER and self.high < HALF + QUARTER:
                offset = QUARTER
            else:
                return
            bit = int(self.bits[self.at]) if self.at < len(self.bits) else 0
            self.at += 1
            self.low, self.high = 2 * (self.low - offset), 2 * (self.high - offset) + 1
            self.value = 2 * (self.value - offset) + bit
