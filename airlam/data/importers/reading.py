"""The importers that are known, and the one way to read a recording."""

from __future__ import annotations

from pathlib import Path

import torch

from airlam.data.importers.captures import Intel5300, Nexmon
from airlam.data.importers.recording import Importer, Recording
from airlam.data.importers.wifi import Esp32, WifiArrays
from airlam.errors import StoreError
from airlam.recipes.registry import Registry

IMPORTERS: Registry[Importer] = Registry("format", "airlam.importers", Importer, [WifiArrays, Esp32, Intel5300, Nexmon])


def read_recording(path: str | Path, format: str | None = None) -> Recording:
    """Read a recording.

    Args:
        path: of the file.
        format: ``wifi-arrays`` (a ``.npz`` of PicoScenes or Nexmon arrays), ``esp32`` (a ``.csv`` of the ESP32
            toolkit), ``intel5300`` (a ``.dat`` of the 802.11n CSI Tool) and ``nexmon`` (a ``.pcap``), both with the
            package ``csiread``, a name in ``IMPORTERS``, or the class path of an :class:`Importer` of your own
            (``my_importer.Matrices``); ``None``: the one that takes files of this suffix.

    Raises:
        StoreError: the file is missing, of another kind, or damaged; no importer, or several, take its suffix; or what
            an importer returned is no CSI.
        RecipeError: no importer has the name.

    Example:
        >>> import tempfile, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> file = Path(tempfile.mkdtemp()) / "capture.npz"
        >>> np.savez(file, csi=rng.normal(size=(20, 64)) + 1j, time_s=np.arange(20) / 10)
        >>> read_recording(file).csi.shape
        torch.Size([20, 64, 1, 1])
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise StoreError(f"no recording {path}")
    importer = IMPORTERS.find(_format_of(path) if format is None else format)
    return _checked(importer().read(path), importer, path)


def _format_of(path: Path) -> str:
    """The name of the only importer that takes files of this suffix."""
    suffixes = {name: IMPORTERS.find(name).suffixes for name in IMPORTERS.names()}
    fitting = [name for name, its in suffixes.items() if path.suffix in its]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise StoreError(f"{path} may be {' or '.join(fitting)}; say which: read_recording(path, {fitting[0]!r})")
    known = ", ".join(f"{name} ({', '.join(its) or 'any suffix'})" for name, its in suffixes.items())
    raise StoreError(f"{path} has a suffix that no importer takes; name one of {known}, or the class path of your own")


def _checked(recording: Recording, importer: type[Importer], path: Path) -> Recording:
    """A recording as it was read, if its axes fit together and its CSI is finite."""
    said = f"{importer.__name__} read {path} as"
    if not isinstance(recording, Recording):
        raise StoreError(f"{said} {type(recording).__name__}, but must return airlam.data.importers.Recording")
    csi, tones, time_s = recording.csi, recording.tones, recording.time_s
    for name, value in (("csi", csi), ("tones", tones), ("time_s", time_s)):
        if not isinstance(value, torch.Tensor) and not (name == "time_s" and value is None):
            raise StoreError(f"{said} {name} of type {type(value).__name__}; torch.from_numpy(...) converts arrays")
    if csi.dtype != torch.complex64 or csi.dim() != 4 or 0 in csi.shape:
        raise StoreError(
            f"{said} csi {csi.dtype} {list(csi.shape)}, but must be complex64 [packet, subcarrier, rx_ant, tx_ant]"
        )
    if not torch.isfinite(torch.view_as_real(csi)).all():
        raise StoreError(f"{said} csi with NaN or infinity; leave such packets out")
    if tones.shape != csi.shape[1:2]:
        raise StoreError(f"{said} {csi.shape[1]} subcarriers, but tones {list(tones.shape)}; give one number for each")
    if time_s is not None and time_s.shape != csi.shape[:1]:
        raise StoreError(f"{said} {csi.shape[0]} packets, but time_s {list(time_s.shape)}; give one for each, or None")
    return recording
