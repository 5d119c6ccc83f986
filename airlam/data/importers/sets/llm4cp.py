"""The data set of LLM4CP (Liu et al., "LLM4CP: Adapting Large Language Models for Channel Prediction", 2024)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from airlam.data.importers.sets.layout import Contents, Layout, LinkBlock, links_at_once
from airlam.data.importers.sets.matlab import looks_like, opened_variable, variable_names
from airlam.data.importers.sets.turning import link_blocks
from airlam.errors import RecipeError, StoreError

AXES = "speed, user, slot, subcarrier, column, row, polarisation"
# km/h, by the number of speeds: of dataset_generation/Generate_CSI.m, and of the loop over the test set in
# test_tdd_full.py.
SPEEDS = {900: (10.1, 100.0), 10: (10.0, 100.0)}


class Llm4cp(Layout):
    """MATLAB files of ``H_U_his``, ``H_U_pre``, ``H_D_pre`` with the ending ``_train`` or ``_test``.

    Each variable is ``[speed, user, slot, subcarrier, column, row, polarisation]``, as ``Generate_CSI.m`` and
    ``gen_arrayant_3gpp_3d.m`` in ``dataset_generation`` of https://github.com/liuboxun/LLM4CP say: QuaDRiGa's elements
    (polarisation fastest, then the row from bottom to top, then the column) in reversed order of axes. airlam's ports
    are polarisation, column, row from top to bottom. QuaDRiGa's signs are airlam's: delay ``-2 pi f delay``, Doppler
    positive for a falling distance. The first of 96 subcarriers is at 2.4 GHz, spacing 180 kHz, slots 0.5 ms. Up-link
    history and future are slots 1 to 16 and 17 to 20 of one track on subcarriers 1 to 48; the down-link future is on
    subcarriers 49 to 96. The ten users of a speed are of one drop.

    Args:
        link: ``up`` (default): history and future in one link. ``down``: the down-link future alone, because its past
            is not in the data set.
        future: the file of the future, if it is neither in the same file nor beside it under the name of its variable.
        speed_kmh: ``FIRST,LAST``: the speeds of the first axis, evenly spaced. Known for the published 900 and 10.
    """

    name = "llm4cp"
    options = ("link", "future", "speed_kmh")
    file_options = ("future",)

    def __init__(self, link: str = "up", future: str | None = None, speed_kmh: str | None = None) -> None:
        if link not in ("up", "down"):
            raise RecipeError(f"--link is {link!r}, but must be up or down")
        self.link = link
        self.future = None if future is None else Path(future).expanduser()
        self.ends = None if speed_kmh is None else _speeds(speed_kmh)

    @classmethod
    def recognises(cls, path: Path) -> bool:
        return looks_like(path, lambda name: _kind(name) is not None)

    @contextmanager
    def open(self, path: Path) -> Iterator[Contents]:
        kinds = ("U_his", "U_pre") if self.link == "up" else ("D_pre",)
        with ExitStack() as stack:
            found = self._variables(path, kinds)
            parts = [stack.enter_context(opened_variable(file, name, 7, AXES)) for file, name in found]
            first = parts[0]
            for other in parts[1:]:
                if other.shape[:2] + other.shape[3:] != first.shape[:2] + first.shape[3:]:
                    raise StoreError(
                        f"{other.title} is {list(other.shape)}, which does not continue {first.title} "
                        f"{list(first.shape)}: only the slots (third axis) may differ; name the right --future"
                    )
            speeds, users, _, tones, columns, rows, polarisations = first.shape
            slots = sum(part.shape[2] for part in parts)
            shape = (speeds * users, slots, tones, 1, polarisations * columns * rows)
            ends = self.ends or SPEEDS.get(speeds)
            metres = None if ends is None else np.linspace(*ends, speeds) / 3.6

            def blocks() -> Iterator[LinkBlock]:
                step, start = links_at_once(shape), 0
                for csi in zip(*(link_blocks(part, 2, step, self.scratch) for part in parts), strict=True):
                    h = np.empty((len(csi[0]), slots, tones, polarisations, columns, rows), np.complex64)
                    done = 0
                    for part in csi:
                        h[:, done : done + part.shape[1]] = np.moveaxis(part[..., ::-1, :], -1, -3)  # rows from the top
                        done += part.shape[1]
                    stop = start + len(h)
                    speed = None if metres is None else metres[np.arange(start, stop) // users]
                    yield LinkBlock(h.reshape(-1, *shape[1:]), speed)
                    start = stop

            known = {
                "slot_duration": 0.5e-3,
                "carrier_frequency": 2.4e9 if self.link == "up" else 2.4e9 + tones * 180e3,
                "subcarrier_spacing": 180e3,
                "port_shape": (polarisations, columns, rows),
            }
            notes = () if ends else (f"the speeds of {speeds} steps are not known; --speed-kmh FIRST,LAST gives them",)
            files = tuple(dict.fromkeys(file for file, _ in found))
            yield Contents(shape, blocks, files, known, users, notes)

    def _variables(self, path: Path, kinds: tuple[str, ...]) -> list[tuple[Path, str]]:
        """The file and name of the variable of each kind."""
        names = variable_names(path)
        ends = {match["end"] for name in names if (match := _kind(name))}
        if len(ends) != 1:
            raise StoreError(
                f"{path}: layout llm4cp expects H_U_his, H_U_pre or H_D_pre with one ending _train or _test, found "
                f"{', '.join(names) or 'no variable'}"
            )
        end, found = ends.pop(), []
        for kind in kinds:
            name = f"H_{kind}_{end}"
            beside = self.future if self.future and kind != "U_his" else path.with_name(f"{name}.mat")
            if name in names and not (self.future and kind != "U_his"):
                found.append((path, name))
            elif beside.is_file() and name in (there := variable_names(beside)):
                found.append((beside, name))
            else:
                what = f"{beside} holds {', '.join(there)}" if beside.is_file() else f"there is no {beside}"
                option = "" if kind == "U_his" else "; name its file with --future FILE"
                raise StoreError(f"{path}: layout llm4cp with --link {self.link} expects {name}, but {what}{option}")
        return found


def _kind(name: str) -> re.Match[str] | None:
    return re.fullmatch(r"H_(?P<kind>U_his|U_pre|D_pre)_(?P<end>train|test)", name)


def _speeds(text: str) -> tuple[float, float]:
    """First and last speed in km/h."""
    try:
        first, last = map(float, text.split(","))
        if 0 <= first <= last < 1e4:
            return first, last
    except ValueError:
        pass
    raise RecipeError(f"--speed-kmh is {text!r}, but must be FIRST,LAST in km/h, such as 10,100")
