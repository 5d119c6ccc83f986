"""``toy_launch.py FOLDER '{"devices": [...], ...}'``: launches toy workers as `airlam parallel` launches real ones."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from airlam.edge.parallel.launching.launch import Launch, launch
from airlam.errors import AirlamError

if __name__ == "__main__":
    options = json.loads(sys.argv[2])
    command = (sys.executable, str(Path(__file__).with_name("toy_worker.py")))
    devices = tuple(options.pop("devices"))
    try:
        outcome = launch(Launch(Path(sys.argv[1]), command, devices, resume="toy --resume", **options))
    except AirlamError as error:
        sys.exit(f"airlam parallel: {error}")
    if outcome.line:
        print(f"airlam parallel: {outcome.line}", file=sys.stderr)
    sys.exit(outcome.code)
