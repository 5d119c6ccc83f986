"""What happened to a run: one JSON object a line in ``events.jsonl``, and one line of text for the console.

Every process of a run on one machine appends to the same file, each event in one write, so lines never mix. On several
machines each run folder holds what its own processes saw.

Kinds: ``started``, ``saved`` (a durable step), ``timeout``, ``lost`` (a worker or an agent), ``left out`` (a device),
``resumed`` (with ``lost_steps`` and ``recovery_s``), ``failed``, ``interrupted``, ``ended`` (too early), ``finished``.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from airlam.edge.parallel.launching.processes import ROUND
from airlam.edge.parallel.recipe import UNITS

EVENTS = "events.jsonl"


def record(folder: str | Path, event: str, **fields: Any) -> dict[str, Any]:
    """Append an event with the time [s since 1970] and the number of this set of workers, where there is one.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> _ = record(folder, "saved", step=20)
        >>> [(one["event"], one["step"]) for one in read_events(folder)]
        [('saved', 20)]
    """
    entry: dict[str, Any] = {"time": round(time.time(), 3), "event": event}
    if (number := os.environ.get(ROUND)) is not None:
        entry["round"] = int(number)
    entry |= fields
    file = os.open(Path(folder) / EVENTS, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        os.write(file, (json.dumps(entry) + "\n").encode())
    finally:
        os.close(file)
    return entry


def read_events(folder: str | Path, offset: int = 0) -> list[dict[str, Any]]:
    """The events of a run in the order of writing, from the byte ``offset`` on; a cut last line is left out."""
    return follow(folder, offset)[0]


def follow(folder: str | Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Events that begin at byte ``offset`` or later, and the offset behind the last whole one."""
    path = Path(folder) / EVENTS
    if not path.is_file():
        return [], offset
    with open(path, "rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    found = []
    for line in data[:end].splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:  # half of a line that the power cut, then others
            continue
    return found, offset + end


def durable_step(events: list[dict[str, Any]]) -> int | None:
    """The last step that was saved."""
    return next((one["step"] for one in reversed(events) if one["event"] == "saved"), None)


def line_of(entry: dict[str, Any]) -> str | None:
    """The event as one line for the console; None for what happens all the time.

    Example:
        >>> line_of({"event": "lost", "what": "agent", "device": "phone", "why": "SIGKILL"})
        'the agent of phone is lost (SIGKILL)'
    """
    kind = entry["event"]
    if kind == "lost":
        return f"the {entry['what']} of {entry['device']} is lost ({entry['why']})"
    if kind == "left out":
        return f"{entry['device']} is left out: {entry['why']}"
    if kind == "timeout":
        return entry["text"]
    if kind == "resumed":
        devices = entry["devices"]
        away = f", without {', '.join(entry['away'])}" if entry["away"] else ""
        return (
            f"training goes on at step {entry['step']} on {len(devices)} rank{'s' * (len(devices) > 1)}{away}"
            f"{_new_plan(entry.get('shares'))}: "
            f"{entry['lost_steps']} step{'s' * (entry['lost_steps'] != 1)} lost, {entry['recovery_s']:.1f} s to recover"
        )
    return None


def _new_plan(shares: Any) -> str:
    """What a new plan shares out, in words; empty where there is none."""
    if not isinstance(shares, dict) or "mode" not in shares:
        return ""
    parts = [f"{UNITS[name]} {'+'.join(map(str, part))}" for name, part in shares["shares"].items()]
    return f", planned anew ({', '.join([shares['mode'], *parts])})"
