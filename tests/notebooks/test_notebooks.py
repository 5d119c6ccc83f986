"""Notebooks are stored without output and run from the first cell to the last."""

import time
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="pip install 'airlam[notebook]'")
FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_output(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None, "jupyter nbconvert --clear-output clears it"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path, tmp_path):
    client = pytest.importorskip("nbclient", reason="pip install 'airlam[notebook]'")
    pytest.importorskip("ipykernel", reason="pip install 'airlam[notebook]'")
    notebook = nbformat.read(path, as_version=4)
    start = time.perf_counter()
    # an empty working folder: a notebook must find recipes and checkpoints wherever it is opened
    client.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert time.perf_counter() - start < 180  # a minute on an idle laptop; busy machines are allowed three
