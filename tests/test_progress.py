"""Plain lines where there is no terminal."""

from __future__ import annotations

import io
import time

from rich.console import Console

from airlam.progress import ProgressLines


def test_lines_come_while_work_goes_on():
    file = io.StringIO()
    with ProgressLines(console=Console(file=file), seconds=0.05) as bar:
        task = bar.add_task("cells", total=4)
        bar.advance(task)
        time.sleep(0.3)
        early = file.getvalue().splitlines()
        bar.advance(task, 3)
    assert len(early) >= 2 and early[0].startswith("progress: cells, 1 of 4, 25 %") and "left" in early[0]
    assert file.getvalue().splitlines()[-1].startswith("progress: cells, 4 of 4, 100 %")
    assert "\x1b" not in file.getvalue()


def test_a_terminal_gets_the_bar():
    file = io.StringIO()
    with ProgressLines(console=Console(file=file, force_terminal=True)) as bar:
        bar.advance(bar.add_task("cells", total=1))
    assert "progress:" not in file.getvalue() and "cells" in file.getvalue()
