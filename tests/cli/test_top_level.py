"""The top level: light, and helpful to those who mistype."""

from __future__ import annotations

import heapq
import subprocess
import sys

import pytest

from airlam.cli import COMMANDS

HEAVY = ("torch", "lightning", "sionna", "transformers", "h5py", "jsonargparse", "numpy", "yaml", "rich")


@pytest.mark.parametrize("arguments", [["--help"], [], ["--version"], ["fitt"]])
def test_loads_nothing_heavy(arguments):
    code = (
        f"import sys; from airlam.cli import main; main({arguments!r}); "
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip().splitlines()[-1] == "[]"


def test_help_names_every_command(airlam):
    result = airlam("--help")
    assert result.code == 0 and all(f"  {name}" in result.out for name in COMMANDS)


def test_version(airlam):
    from airlam import __version__

    assert airlam("--version").out.strip() == f"airlam {__version__}"


@pytest.mark.parametrize(
    ("word", "nearest"),
    [("fitt", "fit"), ("genrate", "generate"), ("docter", "doctor"), ("evalute", "evaluate"), ("--lst", "list")],
)
def test_mistyped_commands_name_the_nearest(refuses, word, nearest):
    line = refuses(word)
    assert word in line and f"did you mean '{nearest}'?" in line or word == "--lst"


def test_python_m_airlam():
    result = subprocess.run([sys.executable, "-P", "-m", "airlam", "nonsense"], capture_output=True, text=True)
    assert result.returncode == 2 and result.stderr.startswith("airlam: unknown command 'nonsense'; commands: demo")


@pytest.mark.parametrize("error", [KeyboardInterrupt("half-way; run it again"), KeyboardInterrupt()])
def test_interruption(airlam, monkeypatch, error):
    import airlam.cli.listing as listing

    def interrupted(_):
        raise error

    monkeypatch.setattr(listing, "run", interrupted)
    result = airlam("list")
    assert result.code == 130 and (str(error) or "interrupted") in result.err


def test_debug_shows_the_traceback(airlam, monkeypatch):
    from airlam.errors import RecipeError

    assert airlam("generate", "--config", "nowhere").code == 2
    monkeypatch.setenv("AIRLAM_DEBUG", "1")
    with pytest.raises(RecipeError):
        airlam("generate", "--config", "nowhere")


def test_a_fault_is_not_blamed_on_the_user(airlam, monkeypatch):
    import airlam.cli.listing as listing

    monkeypatch.setattr(listing, "run", heapq.heappop)  # of the empty list of arguments
    result = airlam("list")
    assert result.code == 1 and result.err.strip() == (
        "airlam list: IndexError: index out of range (AIRLAM_DEBUG=1 shows the traceback)"
    )


def test_a_fault_in_ones_own_code_names_the_place(airlam, monkeypatch):
    import airlam.cli.listing as listing

    def broken(_):
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(listing, "run", broken)
    result, line = airlam("list"), broken.__code__.co_firstlineno + 1
    function = "test_a_fault_in_ones_own_code_names_the_place.broken"
    assert result.code == 1 and result.err.strip() == (
        f"airlam list: RuntimeError: first second ({__file__}, line {line}, in {function}; "
        "AIRLAM_DEBUG=1 shows the whole traceback)"
    )


def test_a_pipe_that_closes_is_no_error():
    # `airlam --help | head -1`: the reader leaves while the text is still being written.
    code = f"{sys.executable} -c \"from airlam.cli import main; import sys; sys.exit(main(['--help']))\" | true"
    result = subprocess.run(["bash", "-c", f"set -o pipefail; {code}"], capture_output=True, text=True)
    assert "Traceback" not in result.stderr and "Error" not in result.stderr


def test_the_demo_lists_its_options_with_their_defaults(airlam):
    from dataclasses import fields

    from airlam.evaluation.demo.arguments import DemoArguments

    result = airlam("demo", "--help")
    assert result.code == 0
    for name in ("out", "federated", *(each.name for each in fields(DemoArguments))):
        assert f"--{name} " in result.out, name
    assert "training steps. (default: 250)" in result.out and "(default: umi_nlos)" in result.out
