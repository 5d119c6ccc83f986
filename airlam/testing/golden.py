"""Golden runs: the figures of a short, fixed run are stored, and a later run must give them again.

A refactoring that moves a figure is then found in seconds. A change that is meant to move figures records them anew::

    AIRLAM_RECORD_GOLDEN=1 pytest tests/golden
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from airlam.io import write_text

RECORD = "AIRLAM_RECORD_GOLDEN"


def check_golden(
    file: str | Path,
    figures: Mapping[str, float],
    *,
    rtol: float = 1e-3,
    atol: float = 1e-3,
    loose: Mapping[str, float] | None = None,
) -> None:
    """Compare ``figures`` with those stored in ``file``, or store them if ``AIRLAM_RECORD_GOLDEN`` is set.

    Args:
        file: JSON with one number for each name.
        figures: name -> finite number.
        rtol, atol: a figure may differ by ``atol + rtol * |stored|``. The defaults leave room for the rounding of
            single precision on another processor; on one machine figures repeat to the last digit.
        loose: pattern of names (``*`` for anything) -> ``atol`` of what jumps where a rounding decides: counts of
            links, a value chosen by tuning.

    Raises:
        AssertionError: a name is missing or new, or a figure differs; the message lists up to ten of them.

    Example:
        >>> import os, tempfile
        >>> file = Path(tempfile.mkdtemp()) / "golden.json"
        >>> _ = file.write_text('{"nmse_db": -15.2}')
        >>> check_golden(file, {"nmse_db": -15.2001})
    """
    file = Path(file)
    bad = [name for name, value in figures.items() if not math.isfinite(value)]
    assert not bad, f"not finite: {bad[:10]}"
    if os.environ.get(RECORD):
        lines = (f" {json.dumps(name)}: {float(f'{value:.6g}')!r}" for name, value in sorted(figures.items()))
        write_text(file, "{\n" + ",\n".join(lines) + "\n}\n")
        return
    assert file.is_file(), f"{file} is missing; record it with {RECORD}=1"
    stored = json.loads(file.read_text(encoding="utf-8"))
    missing, new = sorted(stored.keys() - figures.keys()), sorted(figures.keys() - stored.keys())

    def room(name: str) -> float:
        found = [value for pattern, value in (loose or {}).items() if fnmatch.fnmatchcase(name, pattern)]
        return max([atol, *found]) + rtol * abs(stored[name])

    moved = [
        f"{name}: {stored[name]:.6g} -> {figures[name]:.6g}"
        for name in sorted(stored.keys() & figures.keys())
        if abs(figures[name] - stored[name]) > room(name)
    ]
    problems = [
        f"{what} ({len(names)}): " + "; ".join(names[:10])
        for what, names in (("missing", missing), ("new", new), ("moved", moved))
        if names
    ]
    assert not problems, f"{file.name}: " + "\n".join(problems)
