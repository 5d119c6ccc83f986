"""Progress of long work: a bar on a terminal, plain lines elsewhere (``airlam evaluate ... > log``)."""

from __future__ import annotations

import threading
import time
from typing import Any

from rich.progress import Progress

SECONDS = 15.0  # between two plain lines


class ProgressLines(Progress):
    """``rich.progress.Progress``; where the output is no terminal, one plain line every ``seconds`` and one at the end.

    Example:
        >>> with ProgressLines(seconds=60) as bar:
        ...     task = bar.add_task("cells", total=2)
        ...     bar.advance(task, 2)
        progress: cells, 2 of 2, 100 %, 0:00:00 elapsed
    """

    def __init__(self, *columns: Any, seconds: float = SECONDS, **options: Any) -> None:
        super().__init__(*columns, **options)
        self.plain = not self.console.is_terminal
        self.disable = self.disable or self.plain
        self.seconds, self._begin = seconds, time.monotonic()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Show the bar, or begin to write lines."""
        if not self.plain:
            super().start()
        elif self._thread is None:
            self._begin = time.monotonic()
            self._thread = threading.Thread(target=self._write_lines, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Take the bar away, or write the last line."""
        if not self.plain:
            super().stop()
        elif self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._thread = None
            self._write_line()

    def _write_lines(self) -> None:
        while not self._ended.wait(self.seconds):
            self._write_line()

    def _write_line(self) -> None:
        for task in self.tasks:
            total = task.total or 0
            share = task.completed / total if total else 0.0
            seconds = time.monotonic() - self._begin
            parts = [str(task.description).strip(), f"{task.completed:.4g} of {total:.4g}", f"{100 * share:.0f} %"]
            parts += [f"{clock(seconds)} elapsed"]
            if 0 < share < 1:
                parts += [f"about {clock(seconds * (1 - share) / share)} left"]
            print("progress: " + ", ".join(part for part in parts if part), file=self.console.file, flush=True)


def clock(seconds: float) -> str:
    """``h:mm:ss``.

    Example:
        >>> clock(3725)
        '1:02:05'
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
