"""The data sets of WiFo (Liu et al., Sci. China Inf. Sci. 68, 162302, 2025; https://github.com/liuboxun/WiFo)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from airlam.data.importers.sets.layout import Contents, Layout, LinkBlock, links_at_once
from airlam.data.importers.sets.matlab import looks_like, opened_variable, variable_names
from airlam.data.importers.sets.turning import link_blocks
from airlam.errors import StoreError

AXES = "sample, slot, subcarrier, antenna"


class WiFo(Layout):
    """A ``.mat`` with one complex variable ``X_val``, ``X_train`` or ``X_test``.

    Its axes are ``[sample, slot, subcarrier, antenna]``; the published files are ``X_test.mat`` with ``X_val``.

    Users have one antenna. The channels are of QuaDRiGa, whose signs are airlam's: delay ``-2 pi f delay``, Doppler
    positive for a falling distance. A file tells neither slot, carrier, spacing nor how its antennas fold, which differ
    from set to set: these are options, and antennas keep their order.

    Args:
        variable: the variable, if there are several.
    """

    name = "wifo"
    options = ("variable",)
    variables = ("X_val", "X_train", "X_test")

    def __init__(self, variable: str | None = None) -> None:
        self.variable = variable

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return looks_like(path, lambda name: name in cls.variables)

    @contextmanager
    def open(self, path: Path) -> Iterator[Contents]:
        names = variable_names(path)
        wanted = self.variables if self.variable is None else (self.variable,)
        found = [name for name in names if name in wanted]
        if len(found) != 1:
            raise StoreError(
                f"{path}: layout wifo expects one variable {' or '.join(wanted)}, found {', '.join(names) or 'none'}"
                + ("; say which with --variable NAME" if len(found) > 1 else "")
            )
        with opened_variable(path, found[0], 4, AXES) as csi:
            links, slots, tones, ports = csi.shape
            shape = (links, slots, tones, 1, ports)

            def blocks() -> Iterator[LinkBlock]:
                for h in link_blocks(csi, 1, links_at_once(shape), self.scratch):
                    yield LinkBlock(h[:, :, :, None])

            yield Contents(shape, blocks, (path,))
