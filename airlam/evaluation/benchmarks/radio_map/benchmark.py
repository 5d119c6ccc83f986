"""Radio maps: what CSI a user has at a place where nothing was measured."""

from __future__ import annotations

from pathlib import Path

from airlam.evaluation.benchmarks.radio_map.config import RadioMapConfig
from airlam.evaluation.benchmarks.radio_map.one_place import run_place
from airlam.evaluation.benchmarks.radio_map.tables import make_results
from airlam.evaluation.report.html import publish
from airlam.evaluation.runner import narrator
from airlam.io import file_hash, file_words, read_finished, recipe_hash, write_json
from airlam.metrics import cpu_threads
from airlam.models import AirlamMap, OnnxMap, is_onnx_folder, load_map
from airlam.recipes import find_checkpoint


class RadioMapBenchmark(RadioMapConfig):
    """Interpolation, kriging and a network at sites that none of them has seen. Arguments: :class:`RadioMapConfig`.

    Raises:
        RecipeError: shares that do not fit, a place without a city or a channel with stations.
        CheckpointError: ``model`` is not there, or another model.

    Example:
        >>> RadioMapBenchmark(users=100, shares=[0.1], headline_share=0.1).count(0.1)
        10
    """

    def run(self, out: str | Path) -> Path:
        """Run what is not finished yet; write ``results.json``, ``plots/``, ``report.html``, ``leaderboard.md``.

        Every finished place is a file in ``out/places``: an interrupted benchmark goes on with the next.

        Returns:
            The path of ``report.html``.
        """
        from rich.console import Console

        out, say, model = Path(out), narrator(Console()), self.network()
        records = []
        with cpu_threads(self.threads):
            for label in self.places:
                path = self.file(out, label)
                record = read_finished(path)
                if record is None:
                    record = run_place(self, label, model, say)
                    write_json(path, record)
                records.append(record)
        say("done")
        return publish(make_results(self, records), out, threads=self.threads)

    def network(self) -> AirlamMap | OnnxMap | None:
        """The checkpoint that ``model`` names, or its exported graph."""
        if self.model is None:
            return None
        folder = find_checkpoint(self.model)
        return OnnxMap(folder, self.threads).eval() if is_onnx_folder(folder) else load_map(folder).eval()

    def file(self, out: Path, label: str) -> Path:
        """The file of a finished place; its name changes with all that its figures depend on."""
        arguments = {k: v for k, v in self.plain().items() if k not in ("places", "title", "threads")}
        weights = ""
        if self.model is not None:
            folder = find_checkpoint(self.model)
            weights = file_hash(folder / (OnnxMap.graph if is_onnx_folder(folder) else "model.safetensors"))
        key = recipe_hash([arguments, self.places[label], weights])
        return out / "places" / f"{file_words(label)}_{key}.json"
