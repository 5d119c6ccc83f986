"""One table as data, and its renderers: nothing is lost, and no name becomes a command of the format."""

import csv
import io
import re
from dataclasses import replace

import pandas as pd
import pytest

from airlam.evaluation.report.collect import report_tables
from airlam.evaluation.report.contents import mean_table
from airlam.evaluation.report.csv import to_csv, write_csv
from airlam.evaluation.report.html import render_cell
from airlam.evaluation.report.latex import escape, to_latex, write_latex
from airlam.evaluation.report.markdown import to_markdown
from airlam.evaluation.report.table import Cell, Table, unique_columns
from airlam.evaluation.rows import Figure

GAIN = Cell(figure=Figure(-0.6, "dB", "measured", (-0.75, -0.45)), style="+.2f", small=("note",))
HOSTILE = "\\input{/etc/passwd} $x$ 100 % & #1 _a_ ^b ~ {c} <d> |e|\n\\end{table}"


def test_each_renderer_shows_value_interval_and_note():
    table = Table("Means", ["method", "gain"], [("", [Cell("ar", strong=True), GAIN]), ("", ["hold", None])])
    assert str(render_cell(GAIN)) == "-0.60<small>-0.75 … -0.45</small><small>note</small>"
    assert str(render_cell(None)) == "&ndash;" and render_cell("a") == "a"
    assert "| **ar** | -0.60 (-0.75 to -0.45) (note) |\n| hold | - |" in to_markdown([table])
    assert "\\textbf{ar} & $-$0.60 ($-$0.75 to $-$0.45, note) \\\\\nhold & -- \\\\" in to_latex(table)
    assert to_csv([table]).splitlines() == [
        'table,method,gain,"gain, low","gain, high","gain, note"',
        "Means,ar,-0.6,-0.75,-0.45,note",
        "Means,hold,,,,",
    ]


def test_pandas_reads_every_figure_of_the_results(results, tmp_path):
    every = pd.read_csv(write_csv(report_tables(results), tmp_path / "leaderboard.csv"))
    means = every[every["table"] == "All cells together"].dropna(axis="columns", how="all").set_index("method")
    for row in results.select(group="mean"):
        line = means.loc[render_cell(mean_cell(results, row.method)).striptags()]
        for name, column in (("nmse_linear_db", "NMSE [dB], linear mean"), ("sum_se_k4", "sum-SE, 4 users [bit/s/Hz]")):
            if (figure := row.figures.get(name)) is None:
                assert pd.isna(line[column])
                continue
            assert (line[column], line[f"{column}, low"], line[f"{column}, high"]) == (figure.value, *figure.interval)
    assert means.loc["airlam-tiny", "parameters"] == 1_012_345
    cells = every[every["table"].str.startswith("Every cell")]
    assert len(cells) == len(results.select(group="cell"))
    assert cells[["data", "km/h", "CSI SNR [dB]"]].notna().all().all()  # the table leaves repeated ones empty


def mean_cell(results, method):
    labels = {row.method for row in results.select(group="mean")}
    assert method in labels
    table = mean_table(replace(results, rows=[r for r in results.rows if r.method == method]), "airlam-tiny")
    return table.lines[0][1][0]


@pytest.mark.parametrize("text", ["=1+1", "@sum", "+cmd|x", "-cmd", "\t=1"])
def test_a_spreadsheet_computes_no_cell(text):
    (line,) = list(csv.reader(io.StringIO(to_csv([Table("t", ["a"], [("", [text])])]))))[1:]
    assert line[1].startswith("'")


def test_signed_numbers_stay_numbers_in_csv():
    table = Table("t", ["a", "b", "c"], [("", ["-7.6", "+0.60 (+0.45 to +0.75)", "-"])])
    assert to_csv([table]).splitlines()[1] == "t,-7.6,+0.60 (+0.45 to +0.75),"


def test_latex_has_no_command_of_a_name():
    table = Table(HOSTILE, [HOSTILE, "b"], [("focus", [HOSTILE, Cell(HOSTILE, small=(HOSTILE,))])], text=HOSTILE)
    text = to_latex(table)
    known = "begin|end|caption|toprule|midrule|bottomrule|textbf|textbackslash|textasciitilde|textasciicircum"
    known += "|textless|textgreater|textbar"
    assert not re.findall(rf"(?<!\\)\\(?!(?:{known})\b)[A-Za-z]+", text)
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 1
    bare = re.sub(r"\\[\\&%$#_{}]", "", text)
    assert not re.search(r"[%#_^~<>|]", bare) and bare.count("{") == bare.count("}")
    for line in bare.split("\\toprule")[1].splitlines():
        assert line.count("&") in (0, 1)  # two columns
    assert "\n" not in escape(HOSTILE)


def test_a_line_of_latex_begins_with_no_option():
    """After the end of a line, ``[`` and ``*`` would be read as an argument of it."""
    text = to_latex(Table("t", ["[dB]", "b"], [("", ["*", "1"]), ("", ["[2]", "1"])]))
    assert not re.search(r"(?m)^[\[*]", text) and "{}[dB] & b" in text


def test_long_tables_of_latex_run_over_pages(results, tmp_path):
    text = write_latex(report_tables(results), tmp_path / "tables.tex").read_text()
    assert text.count("\\begin{longtable}") == text.count("\\end{longtable}") == 1  # every cell
    for name in ("tabular", "table", "longtable"):
        for part in re.findall(rf"\\begin{{{name}}}(.*?)\\end{{{name}}}", text, re.S):
            lines = [line for line in part.splitlines() if line.endswith("\\\\") and not line.startswith("\\caption")]
            assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1


def test_repeated_headings_name_their_neighbour():
    assert unique_columns(["gain", "NMSE", "gain", "gain"]) == ["gain", "NMSE", "gain (NMSE)", "gain (gain)"]
    assert unique_columns(["a (b)", "b", "a", "b", "a"]) == ["a (b)", "b (a (b))", "a (b)'", "b (a)", "a (b)''"]
