"""Sionna RT, asked for with care: whether it works here, where its LLVM lies, and which scenes it brings.

Ray tracing runs on Dr.Jit, which compiles for CPUs with the shared library of LLVM. That library is the user's own
(Debian's libllvm19, under the Apache License 2.0 with LLVM exceptions); airlam neither brings nor downloads it.
"""

from __future__ import annotations

import functools
import glob
import importlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

from airlam.errors import AirlamError, RecipeError
from airlam.recipes import check_choice, check_number, check_switch

OLDEST_LLVM = 16  # 14 is refused by Dr.Jit, 15 aborts the process at the first solve; 19 is what is tested
_LLVM_NAMES = (
    "/usr/lib/*/libLLVM.so.*",
    "/usr/lib/*/libLLVM-*.so*",
    "/usr/lib/llvm-*/lib/libLLVM*.so*",
    "/usr/lib64/libLLVM*.so*",
    "/usr/local/lib/libLLVM*.so*",
    "/opt/homebrew/opt/llvm/lib/libLLVM*.dylib",
)
INSTALL = "pip install 'airlam[rt]', and on CPUs LLVM 19 ('apt install libllvm19')"


@dataclass(frozen=True)
class Site:
    """Where the base station stands in a scene, unless a recipe says otherwise.

    Attributes:
        position: of the panel's middle ``(x, y, z)`` [m], in the scene's coordinates.
        bearing_deg: the panel looks there, counted from the x axis towards the y axis.
        ground: name of the scene's object on which users walk.
    """

    position: tuple[float, float, float]
    bearing_deg: float
    ground: str


# Rooftops and street ends from which most streets within 120 m of the sector are reached by three bounces
SCENES = {
    "munich": Site((8.5, 21.0, 27.0), 60.0, "ground"),
    "etoile": Site((-160.0, 70.0, 15.0), 0.0, "Plane"),
    "florence": Site((7.0, -123.0, 20.0), 90.0, "ground"),
    "san_francisco": Site((34.6, -34.9, 35.6), 60.0, "Terrain"),
    "simple_street_canyon": Site((-33.0, 11.0, 32.0), 0.0, "floor"),
}

RAY_TRACED_KEYS: dict[str, Any] = {
    "scene": "munich",
    "bs_position": None,  # None: the scene's own, see SCENES
    "bs_bearing_deg": None,
    "bs_downtilt_deg": 10.0,
    "max_distance": 120.0,
    "max_depth": 3,
    "diffraction": True,
    "num_samples": 100_000,
    "key_distance": 0.5,
    "chunk": 64,
}

# A wall, a sender and a receiver: the smallest thing that runs every part of the solver
_PROBE = """
import sionna.rt as rt
scene = rt.load_scene(rt.scene.simple_reflector)
scene.tx_array = scene.rx_array = rt.PlanarArray(num_rows=1, num_cols=1, pattern="iso", polarization="V")
scene.add(rt.Transmitter("tx", [0.0, 0.0, 1.0]))
scene.add(rt.Receiver("rx", [0.1, 0.0, 1.0]))
paths = rt.PathSolver()(scene, max_depth=1, samples_per_src=1000)
import mitsuba
print("variant", mitsuba.variant(), len(paths.tau.numpy()))
"""


class RayTracingError(AirlamError):
    """Ray tracing cannot run here; the message says what is missing."""


class Availability(NamedTuple):
    """Whether ray tracing works here, and a line on how, or why not. True or false like ``works``."""

    works: bool
    reason: str

    def __bool__(self) -> bool:
        return self.works


def find_llvm() -> str | None:
    """The newest shared library of LLVM that Dr.Jit gets on with: ``$DRJIT_LIBLLVM_PATH``, or one in the usual places.

    Dr.Jit by itself takes the first one it finds, and an old one aborts the process.
    """
    if os.environ.get("DRJIT_LIBLLVM_PATH"):
        return os.environ["DRJIT_LIBLLVM_PATH"]
    found = []
    for pattern in _LLVM_NAMES:
        for path in glob.glob(pattern):
            version = re.search(r"libLLVM[-.](?:so\.|dylib\.)?(\d+)", Path(os.path.realpath(path)).name)
            if version and int(version[1]) >= OLDEST_LLVM:
                found.append((int(version[1]), path))
    return max(found)[1] if found else None


@functools.lru_cache(maxsize=1)
def rt_available() -> Availability:
    """Trace one small scene in a process of its own: an unfit LLVM does not raise, it aborts.

    Takes 2 to 5 s the first time; the answer is kept.

    Example:
        >>> bool(rt_available()) in (True, False)
        True
    """
    # sionna.rt itself is left to the probe: looking for it imports sionna, which may start the ray tracer
    missing = [name for name in ("mitsuba", "drjit") if util.find_spec(name) is None]
    if missing:
        return Availability(False, f"{', '.join(missing)} not installed: {INSTALL}")
    llvm = find_llvm()
    environment = {**os.environ, **({"DRJIT_LIBLLVM_PATH": llvm} if llvm else {})}
    try:
        result = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=300, env=environment
        )
    except subprocess.TimeoutExpired:
        return Availability(False, "a scene with one wall took more than five minutes to trace")
    used = llvm or "the LLVM that Dr.Jit finds by itself"
    if result.returncode == 0 and "variant" in result.stdout:
        variant = result.stdout.split("variant", 1)[1].split()[0]
        return Availability(True, f"traced a scene with {variant}" + (f", {used}" if "llvm" in variant else ""))
    lines = [line for line in result.stderr.strip().splitlines() if line.strip()] or ["no message"]
    why = f"the process was aborted (signal {-result.returncode})" if result.returncode < 0 else lines[-1].strip()
    return Availability(
        False,
        f"{why}, with {used}; LLVM 19 is tested: 'apt install libllvm19', or set "
        "DRJIT_LIBLLVM_PATH to the file of its shared library",
    )


def import_ray_tracing():
    """``sionna.rt``, after :func:`rt_available` found that it works.

    Raises:
        RayTracingError: it does not.
    """
    found = rt_available()
    if not found:
        raise RayTracingError(f"ray tracing cannot run here: {found.reason}")
    llvm = find_llvm()
    if llvm:
        os.environ["DRJIT_LIBLLVM_PATH"] = llvm  # before Dr.Jit looks by itself
    return importlib.import_module("sionna.rt")


def check_ray_traced(r: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the keys that only ray-traced recipes have.

    Raises:
        RecipeError: names the key, its value and the bound.
    """
    carrier_frequency = r["carrier_frequency"]
    scene = check_choice("scene", r["scene"], tuple(SCENES))
    if not 1e9 <= carrier_frequency <= 60e9:
        raise RecipeError(
            f"carrier_frequency is {carrier_frequency:g}, but the scenes' materials hold from 1e+09 to 6e+10 Hz "
            "(ITU-R P.2040)"
        )
    position = SCENES[scene].position if r["bs_position"] is None else r["bs_position"]
    if not isinstance(position, (list, tuple)) or len(position) != 3:
        raise RecipeError(f"bs_position is {position!r}, but must be [x, y, z] in metres, in the scene's coordinates")
    bearing = SCENES[scene].bearing_deg if r["bs_bearing_deg"] is None else r["bs_bearing_deg"]
    return {
        "scene": scene,
        "bs_position": [check_number(f"bs_position[{i}]", v, -1e4, 1e4, unit="m") for i, v in enumerate(position)],
        "bs_bearing_deg": check_number("bs_bearing_deg", bearing, -360.0, 360.0, unit="degrees"),
        "bs_downtilt_deg": check_number("bs_downtilt_deg", r["bs_downtilt_deg"], -90.0, 90.0, unit="degrees"),
        "max_distance": check_number("max_distance", r["max_distance"], 15.0, 2000.0, unit="m"),
        "max_depth": check_number("max_depth", r["max_depth"], 0, 10, integer=True),
        "diffraction": check_switch("diffraction", r["diffraction"]),
        "num_samples": check_number("num_samples", r["num_samples"], 1000, 10_000_000, integer=True),
        "key_distance": check_number("key_distance", r["key_distance"], 0.01, 10.0, unit="m"),
    }
