"""A command line to try: arguments in, exit code and text out."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest


@pytest.fixture
def airlam(capsys, tmp_path, monkeypatch):
    """``airlam("list", "predictors")`` in an empty folder, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIRLAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.delenv("AIRLAM_DEBUG", raising=False)
    # Lightning's log handlers keep the stderr of the test that imported it, which is closed by now.
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def call(*arguments: object) -> SimpleNamespace:
        from airlam.cli import main

        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return call


@pytest.fixture
def refuses(airlam):
    """Asserts that a command line is refused in one line, with exit code 2, and returns that line."""

    def call(*arguments: object) -> str:
        result = airlam(*arguments)
        line = result.err.strip().splitlines()[-1]
        assert result.code == 2, result
        assert "Traceback" not in result.err + result.out and "usage:" not in result.err
        assert line.startswith("airlam") and len(line) < 700
        return line

    return call
