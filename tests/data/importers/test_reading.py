"""What :func:`read_recording` asks of an importer, and which one it takes."""

import numpy as np
import pytest
import torch

from airlam.data.importers import Importer, Recording, read_recording
from airlam.data.importers.reading import IMPORTERS
from airlam.errors import RecipeError, StoreError
from airlam.recipes import allow_imports_from

CSI = torch.ones(3, 2, 1, 1, dtype=torch.complex64)
TONES = torch.arange(2)


@pytest.fixture
def file(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"")
    return tmp_path / "x.npz"


@pytest.fixture
def importer(monkeypatch):
    """Registers an importer ``constant`` for .npz that returns what it is given, for one test."""

    def make(value):
        class Constant(Importer):
            name = "constant"
            suffixes = (".npz",)

            def read(self, path):
                return value

        monkeypatch.setitem(IMPORTERS._classes, "constant", Constant)
        return "constant"

    return make


def test_a_named_importer_is_taken_and_two_of_one_suffix_are_told_apart(file, importer):
    name = importer(Recording(CSI, None, TONES, "mine"))
    assert read_recording(file, name).receiver == "mine"
    with pytest.raises(StoreError, match="may be wifi-arrays or constant; say which"):
        read_recording(file)


@pytest.mark.parametrize(
    "value, message",
    [
        (CSI, "as Tensor, but must return airlam.data.importers.Recording"),
        (Recording(np.ones((3, 2, 1, 1)), None, TONES, ""), "csi of type ndarray; torch.from_numpy"),
        (Recording(CSI[0], None, TONES, ""), r"csi torch.complex64 \[2, 1, 1\], but must be complex64 \[packet, "),
        (Recording(CSI.to(torch.complex128), None, TONES, ""), "csi torch.complex128"),
        (Recording(CSI * float("nan"), None, TONES, ""), "NaN or infinity"),
        (Recording(CSI, None, TONES[:1], ""), r"2 subcarriers, but tones \[1\]"),
        (Recording(CSI, torch.zeros(2), TONES, ""), r"3 packets, but time_s \[2\]"),
    ],
)
def test_what_is_no_csi_is_refused(file, importer, value, message):
    with pytest.raises(StoreError, match=f"Constant read .*{message}"):
        read_recording(file, importer(value))


def test_class_paths_with_a_dot_and_with_a_colon(tmp_path):
    """A class of another kind, and one that is missing, are named."""
    (tmp_path / "importer_of_a_test.py").write_text(
        "import torch\nfrom airlam.data.importers import Importer, Recording\n"
        "class Ones(Importer):\n"
        "    name = 'ones'\n"
        "    def read(self, path):\n"
        "        return Recording(torch.ones(3, 2, 1, 1, dtype=torch.complex64), None, torch.arange(2), 'ones')\n"
    )
    allow_imports_from(tmp_path)
    for path in ("importer_of_a_test.Ones", "importer_of_a_test:Ones", f"{tmp_path}/importer_of_a_test.py:Ones"):
        assert read_recording(tmp_path / "importer_of_a_test.py", path).receiver == "ones"
    for path, message in (
        ("torch.nn.Linear", "format is 'torch.nn.Linear', which is no subclass of Importer"),
        ("importer_of_a_test.Twos", "has no 'Twos'"),
        ("espp32", "must be one of wifi-arrays, esp32, intel5300, nexmon; did you mean 'esp32'"),
    ):
        with pytest.raises(RecipeError, match=message):
            read_recording(tmp_path / "importer_of_a_test.py", path)
