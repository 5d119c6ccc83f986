"""The leaderboard says what the results say."""

from airlam.evaluation.report.markdown import write_leaderboard


def test_tables_hold_the_figures(make_results, tmp_path):
    results = make_results(gain=0.6, width=0.15)
    text = write_leaderboard(results, tmp_path / "leaderboard.md").read_text()
    means = {row.method: row.figures for row in results.select(group="mean")}
    line = next(line for line in text.splitlines() if line.startswith("| **airlam-tiny** | -"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == f"{means['airlam-tiny']['nmse_cells_db'].value:.2f}"
    assert cells[2] == "+0.60 (+0.45 to +0.75)"
    assert results.headline in text
    for title in ("Every cell", "Sum-SE by speed", "Impaired histories", "CSI period"):
        assert f"## {title}" in text
    for table in text.split("\n\n"):  # every line of a table has the columns of its head
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in rows}) <= 1


def test_share_of_the_gap(make_results, tmp_path):
    """Invented results close gain / 10 of the gap; the bar and the limit stand without a share."""
    text = write_leaderboard(make_results(gain=1.5), tmp_path / "leaderboard.md").read_text()
    table = text.split("closed\n")[1].split("## ")[0].splitlines()
    mine = next(line for line in table if line.startswith("| **airlam-tiny**"))
    assert mine.count("(15 %)") == 8  # two sizes of groups, four speeds
    assert not any("%" in line for line in table if line.startswith(("| AR with", "| perfect")))
