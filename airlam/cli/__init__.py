"""The ``airlam`` command.

The top level only knows names and one line about each command; a command's module comes in when it is called. So
``airlam --help`` loads nothing heavy. Every mistake of a user is one line and exit code 2, which names the place where
it happened in code of the user's own; ``AIRLAM_DEBUG=1`` shows the whole traceback.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from airlam.recipes import nearest, own_place

# name -> (what it does, "module:function"); the function takes the remaining arguments
COMMANDS = {
    "demo": ("the main job on real input, in minutes; names the report it wrote", "airlam.cli.commands:demo"),
    "generate": (
        "make the links of a data set: airlam generate --config datasets/uma_nlos.yaml",
        "airlam.cli.commands:generate",
    ),
    "import": (
        "a foreign data set of CSI into a store: airlam import FILE --out store.h5",
        "airlam.cli.importing:import_data_set",
    ),
    "fit": ("train or adapt a model: airlam fit --config tasks/... --data datasets/...", "airlam.cli.training:fit"),
    "validate": ("evaluate a model on the validation split", "airlam.cli.training:validate"),
    "test": ("evaluate a model on the test split", "airlam.cli.training:test"),
    "predict": ("run a model over the test split", "airlam.cli.training:predict"),
    "evaluate": (
        "a benchmark against tuned classics and the limit, with a report: airlam evaluate --config tasks/...",
        "airlam.cli.commands:evaluate",
    ),
    "federate": (
        "adapt a model at several sites that keep their data: airlam federate --config tasks/...",
        "airlam.cli.commands:federate",
    ),
    "parallel": (
        "several processes train one model together: airlam parallel --config tasks/... --mode pipeline --nproc 2",
        "airlam.cli.parallel:parallel",
    ),
    "plan": (
        "who computes what, before a run: airlam plan federated, airlam plan parallel, airlam plan serving",
        "airlam.cli.commands:plan",
    ),
    "export": (
        "a trained model for ONNX Runtime, LiteRT, TensorFlow: airlam export airlam-tiny --format onnx --out FOLDER",
        "airlam.cli.commands:export",
    ),
    "serve": (
        "predictors, precoders, streams as services over HTTP: airlam serve --config tasks/serving/default.yaml",
        "airlam.cli.serving:serve",
    ),
    "bench-latency": (
        "latency of predictions and streams on this machine, in units of a frozen AR",
        "airlam.cli.latency:bench_latency",
    ),
    "bench-serve": (
        "a server under load: latency, throughput, faults, with a report: airlam bench-serve",
        "airlam.cli.serving:bench_serve",
    ),
    "list": ("recipes, checkpoints, predictors, precoders", "airlam.cli.listing:run"),
    "doctor": ("what is installed and usable", "airlam.cli.doctor:run"),
}
MENDABLE = ("AirlamError", "UsageError", "MisconfigurationException")


class UsageError(Exception):
    """A command line that means nothing; its text is one line."""


def help_text() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, (what, _) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: airlam [--help] [--version] COMMAND ...",
            "",
            "AI for the wireless air interface: 3GPP channels, a pretrained backbone, channel prediction, and an",
            "evaluation against tuned classics and the limit.",
            "",
            "commands:",
            *lines,
            "",
            "'airlam COMMAND --help' explains a command. A recipe (YAML) is looked for in the current folder, then",
            "among the ones that come with airlam. AIRLAM_DEBUG=1 shows the traceback behind an error.",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, 1 (a fault), 2 (a user's mistake), 130 (interrupted)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = os.environ.get("AIRLAM_DEBUG", "0") not in ("", "0")
    try:
        if not arguments or arguments[0] in ("-h", "--help", "help"):
            print(help_text(), flush=True)
            return 0
        name = arguments[0]
        if name in ("-V", "--version"):
            from airlam import __version__

            print(f"airlam {__version__}")
            return 0
        if name not in COMMANDS:
            kind = "option" if name.startswith("-") else "command"
            hint = nearest(name, COMMANDS) or f"; commands: {', '.join(COMMANDS)}"
            print(f"airlam: unknown {kind} '{name}'{hint}", file=sys.stderr)
            return 2
        module, function = COMMANDS[name][1].split(":")
        return getattr(import_module(module), function)(arguments[1:]) or 0
    except SystemExit as error:  # --help and --print_config of the parsers end this way
        if type(error).__name__ == "SIGTERMException":  # Lightning's, without a code of its own
            print(f"airlam {name}: terminated", file=sys.stderr)
            return 143
        return error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except KeyboardInterrupt as error:
        print(f"\nairlam {name}: {str(error) or 'interrupted'}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `airlam list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        print(f"airlam {name}: {_one_line(error)}", file=sys.stderr)
        return 2 if _is_users(error) else 1


def _is_users(error: Exception) -> bool:
    """Whether a user can mend it, as far as the type tells."""
    return isinstance(error, (ValueError, TypeError)) or any(t.__name__ in MENDABLE for t in type(error).__mro__)


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = text if len(text) < 600 else text[:597] + "..."
    mendable = any(t.__name__ in MENDABLE for t in type(error).__mro__)
    if not _is_users(error):
        text = f"{type(error).__name__}: {text}"
    if place := own_place(error):  # in code of the user's own: its type helps there, and the place
        kind = f"{type(error).__name__}: " if _is_users(error) and not mendable else ""
        return f"{kind}{text} ({place}; AIRLAM_DEBUG=1 shows the whole traceback)"
    return text if _is_users(error) else f"{text} (AIRLAM_DEBUG=1 shows the traceback)"
