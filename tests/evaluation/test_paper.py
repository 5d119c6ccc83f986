"""Paper mode: what stands in the files is what stands in the results, and TeX takes it."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from airlam.cli import main
from airlam.errors import RecipeError
from airlam.evaluation import Figure, Row, write_paper
from airlam.evaluation.report.collect import sections_of
from airlam.evaluation.report.latex import escape
from airlam.evaluation.report.palette import Looks
from airlam.evaluation.report.paper import references_of
from airlam.methods import KINDS, ROLES, Method, bibliography, known, register
from airlam.methods.citing import methods_in, shipped

HOSTILE = "\\input{x} $50 % & #1 _a_ ^b ~ {c} <d> |e| é × ∞ 中\n\\end{table}"
# Severity 1: G. Machado, M. Oliveira, L. Fernandes, IEEE Trans. Vis. Comput. Graph. 15(6), 2009; on linear RGB.
DEFICIENCIES = {
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
}


def texts(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_table_and_figure_is_there_twice_and_equal_results_give_equal_files(results, tmp_path):
    sections = sections_of(results.task)[:2]
    paper = write_paper(results, tmp_path / "a", sections)
    assert len(paper.tables) >= 2 and len(paper.figures) >= 3
    files = texts(tmp_path / "a")
    expected = {f"tables/{stem}{end}" for stem in paper.tables for end in (".csv", ".tex")}
    expected |= {f"figures/{stem}{end}" for stem in paper.figures for end in (".pdf", ".svg")}
    assert set(files) == expected | {"paper.tex", "references.bib"}
    assert all(files[f"figures/{stem}.pdf"].startswith(b"%PDF") for stem in paper.figures)
    assert not any(b"/Type3" in files[f"figures/{stem}.pdf"] for stem in paper.figures)
    document = files["paper.tex"].decode()
    assert all(f"\\input{{tables/{stem}}}" in document for stem in paper.tables)
    assert all(f"{{figures/{stem}}}" in document for stem in paper.figures)
    results.save(tmp_path / "results.json")
    again = write_paper(tmp_path / "results.json", tmp_path / "b", sections[:1])
    drawn = {name: text for name, text in texts(tmp_path / "b").items() if name.startswith("figures/")}
    assert len(drawn) == 2 * len(again.figures) >= 2 and drawn == {name: files[name] for name in drawn}


def test_numbers_in_both_forms_are_those_of_the_results(results, tmp_path):
    paper = write_paper(results, tmp_path, sections=())
    stem = next(stem for stem in paper.tables if "all-cells-together" in stem)
    means = pd.read_csv(tmp_path / "tables" / f"{stem}.csv").set_index("method")
    lines = {}
    for line in (tmp_path / "tables" / f"{stem}.tex").read_text().split("\\midrule")[1].splitlines():
        if " & " in line:
            cells = re.sub(r"\\textbf\{([^}]*)\}", r"\1", line.removesuffix(r" \\")).split(" & ")
            lines[cells[0]] = " ".join(cells).replace("$-$", "-")
    looks, judged = Looks.of(results), 0
    for row in results.select(group="mean"):
        label = looks[row.method].label
        for name, column in (("nmse_linear_db", "NMSE [dB], linear mean"), ("sum_se_k4", "sum-SE, 4 users [bit/s/Hz]")):
            if (figure := row.figures.get(name)) is not None:
                assert means.loc[label, column] == figure.value
                assert f"{figure.value:.2f}" in lines[escape(label)]
                judged += 1
    assert judged >= 12


def test_bibtex_is_of_what_was_compared(results, tmp_path):
    results.rows += [Row("pad + robust rzf", "umi", group="mean"), Row("wifo", "umi", group="mean")]
    results.recipes = {"umi": {"scenario": "umi"}}
    paper = write_paper(results, tmp_path, sections=())
    text = (tmp_path / "references.bib").read_text()
    keys = re.findall(r"^@\w+\{([^,]+),", text, flags=re.M)
    assert keys == paper.references and len(set(keys)) == len(keys)
    assert set(keys) == {"airlam", "hoydis2022sionna", "tr38901", "yin2020pad", "peel2005rzf", "liu2024wifo"}
    assert text.count("{") == text.count("}")
    assert "hold" in text.splitlines()[0] and "hold" in paper.unreferenced  # what has no reference is said


def test_results_without_3gpp_channels_cite_none(results):
    results.recipes = {}
    assert set(references_of(results)[0]) == {"airlam", "yin2020pad"}


def test_every_reference_of_a_shipped_method_exists_and_every_entry_is_used():
    named = {key for kind in KINDS for role in ROLES for method in known(role, kind) for key in method.references}
    named = {key for key in named if not key.startswith("@")}
    assert named <= set(shipped())
    assert set(shipped()) - named == {"airlam", "hoydis2022sionna", "tr38901"}
    for key, entry in shipped().items():
        assert entry.endswith("}") and entry.count("{") == entry.count("}"), key
        assert {"title", "author", "year"} <= set(re.findall(r"^\s*(\w+) =", entry, flags=re.M)), key


def test_a_method_of_ones_own_brings_its_entry(results):
    entry = "@misc{doe2026, title = {Mine}}"
    register(Method("paper-mine", factory="airlam.baselines.hold:HoldPredictor", references=(entry,)), replace=True)
    results.rows.append(Row("paper-mine:stream + rzf", "umi"))
    assert [method.name for method in methods_in("paper-mine:stream + rzf")] == ["paper-mine", "rzf"]
    assert references_of(results)[0]["doe2026"] == entry


@pytest.mark.parametrize("text, words", [("nobody1999", "no entry 'nobody1999'"), ("@misc", "no BibTeX entry")])
def test_a_wrong_reference_is_one_line(text, words):
    with pytest.raises(RecipeError, match=words) as caught:
        bibliography([text], "my method")
    assert "my method" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(RecipeError, match="results.json does not exist"):
        write_paper(tmp_path / "results.json", tmp_path / "paper")
    assert not (tmp_path / "paper").exists()


def test_numbered_tables_of_an_earlier_call_are_replaced(results, tmp_path):
    write_paper(results, tmp_path, sections=())
    (tmp_path / "tables" / "mine.tex").write_text("kept")
    few = replace(results, rows=results.select(group="mean"))
    paper = write_paper(few, tmp_path, sections=())
    assert {path.stem for path in (tmp_path / "tables").iterdir()} == {*paper.tables, "mine"}


def test_names_hold_no_command_and_no_character_that_tex_lacks():
    text = escape(HOSTILE)
    assert "\n" not in text and r"\textbackslash{}input\{x\}" in text and r"\$50 \%" in text
    assert text.replace("é", "").isascii() and r"$\times$ $\infty$ [U+4E2D]" in text


BENCHMARK = """
from airlam.evaluation import Figure, Results, Row, publish

class Bench:
    def __init__(self, write: bool = True):
        self.write = write

    def run(self, out):
        row = Row("pad", "all", group="mean", figures={"nmse_linear_db": Figure(-8.4, "dB", "measured")})
        if self.write:
            return publish(Results("t", "paper_task", [row]), out, threads=1)
        return out / "report.html"
"""


def test_the_command_writes_it_behind_the_report(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "paper_bench.py").write_text(BENCHMARK)
    (tmp_path / "bench.yaml").write_text("class_path: paper_bench.Bench\ninit_args: {}\n")
    assert main(["evaluate", "--config", "bench.yaml", "--out", "out", "--paper", "paper"]) == 0
    assert "paper: paper/paper.tex (1 tables, 0 figures, 2 references)" in capsys.readouterr().out
    assert "-8.4" in (tmp_path / "paper" / "tables" / "01-all-cells-together.csv").read_text()
    assert main(["evaluate", "--config", "bench.yaml", "--out", "none", "--write", "false", "--paper", "p"]) != 0
    assert "none/results.json does not exist" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["evaluate", "--config", "bench.yaml", "--out", "late", "--paper", "file/p"]) != 0
    assert not (tmp_path / "late").exists()  # known before the run
    assert "file is a file" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("pdflatex") and shutil.which("bibtex")), reason="no TeX here")
def test_tex_compiles_it(results, tmp_path):
    results.title = HOSTILE
    results.rows.append(
        Row(HOSTILE.replace("+", ""), "umi", group="mean", figures={"nmse_linear_db": Figure(-1.0, "dB", "measured")})
    )
    write_paper(results, tmp_path)
    latex = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper"]
    for command in (latex, ["bibtex", "paper"], latex, latex):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
    log = (tmp_path / "paper.log").read_text(errors="replace")
    assert "undefined" not in log and (tmp_path / "paper.pdf").stat().st_size > 10_000


def lab(color: str, deficiency) -> np.ndarray:
    """A colour as a reader with this deficiency sees it, in CIELAB (D65)."""
    value = np.array(to_rgb(color))
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(deficiency) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    x, y, z = (np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in xyz / np.array([0.9505, 1.0, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("role", ["predictor", "estimator", "beam-tracker"])
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_no_two_methods_look_alike_to_a_colour_blind_reader(role, deficiency):
    """They differ in marker or line, or by 20 in CIELAB (2.3 is just noticeable)."""
    shown = dict.fromkeys(method.name for kind in KINDS for method in known(role, kind) if method.name != "paper-mine")
    looks = Looks([*shown, "airlam-tiny", "airlam-tiny:no-correction", "airlam-tiny:adapted"])
    for one, other in itertools.combinations(shown, 2):
        a, b = looks[one], looks[other]
        if (a.marker, a.line) == (b.marker, b.line):
            matrix = DEFICIENCIES[deficiency]
            assert np.linalg.norm(lab(a.color, matrix) - lab(b.color, matrix)) > 20, f"{one} and {other}"
