"""A checkpoint whose network runs in LiteRT, the runtime of phones and small devices (``.tflite``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from airlam.errors import CheckpointError
from airlam.models.exported import INPUTS, ExportedModel, ExportedPredictor

MASK = "mask"  # float32 [1, tokens]: 1 for a token, 0 for a place that is only there to fill up


class LitertModel(ExportedModel):
    """An exported checkpoint in LiteRT. Arguments, errors: :class:`airlam.models.exported.ExportedModel`.

    The graph takes one link with a fixed number of tokens. Narrow bands and few antennas have fewer tokens: the places
    that are left are masked. Links go through one after the other.
    """

    formats = ("litert", "litert-int8")
    graph = "model.tflite"

    def open(self, path: Path, threads: int) -> None:
        try:
            from ai_edge_litert.interpreter import Interpreter
        except ImportError as error:
            raise CheckpointError(f"{path} needs LiteRT; pip install 'airlam[litert]'") from error
        try:
            self.interpreter = Interpreter(str(path), num_threads=threads)
            (signature,) = self.interpreter.get_signature_list()
            self.runner = self.interpreter.get_signature_runner(signature)
        except Exception as error:  # of the runtime's own types
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path} is no graph that LiteRT can run ({reason}); export it again") from error
        shapes = [tuple(x["shape"]) for _, x in sorted(self.runner.get_input_details().items(), key=_number)]
        widths = [*self.widths.values()]
        self.tokens = int(shapes[0][1]) if shapes and len(shapes[0]) == 3 else 0
        wanted = [(1, self.tokens, width) if width else (1, self.tokens) for width in (*widths, None)]
        if shapes != wanted or len(self.runner.get_output_details()) != len(self.outputs):
            raise CheckpointError(
                f"{path} takes {shapes} and gives {len(self.runner.get_output_details())} outputs, but config.json "
                f"describes {widths[0]} features on a grid of {self.config.doppler_grid}; they do not belong together; "
                "export the checkpoint again"
            )
        self.one_by_one = True

    def run(self, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        links, tokens = arrays[INPUTS[0]].shape[:2]
        if tokens > self.tokens:
            raise CheckpointError(
                f"the graph takes up to {self.tokens} tokens, but this input has {tokens}; export it again with more"
            )
        filled = [_filled(arrays[name], self.tokens) for name in INPUTS]
        filled.append(_filled(np.ones((links, tokens), np.float32), self.tokens))
        out = self.runner(**{f"args_{n}": x for n, x in enumerate(filled)})
        return [out[f"output_{n}"][:, :tokens] for n in range(len(out))]


class LitertPredictor(ExportedPredictor):
    """Channel prediction by an exported checkpoint in LiteRT. Arguments: :class:`ExportedPredictor`."""

    runtime = LitertModel


def _number(item: tuple[str, dict]) -> int:
    return int(item[0].rsplit("_", 1)[-1])


def _filled(x: np.ndarray, tokens: int) -> np.ndarray:
    return np.pad(x, [(0, 0), (0, tokens - x.shape[1]), *[(0, 0)] * (x.ndim - 2)])
