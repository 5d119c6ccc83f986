"""``airlam list`` and ``airlam doctor``."""

from __future__ import annotations

import pytest

from airlam.recipes import find_recipe, list_recipes


def test_list_shows_what_can_be_named(airlam):
    result = airlam("list")
    assert result.code == 0
    names = [name for kind in ("channels", "datasets", "tasks") for name in list_recipes(kind)]
    for name in [*names, "hold", "wiener", "ar", "pad", "rzf", "wmmse"]:
        assert name in result.out, name


def test_every_name_in_the_list_is_found():
    for kind in ("channels", "datasets", "tasks"):
        for name in list_recipes(kind):
            assert find_recipe(name).is_file() and find_recipe(name.removesuffix(".yaml")).is_file()


def test_list_shows_the_users_own(airlam, tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "mine.yaml").write_text("# My street: measured [twice].\nchannel: umi_nlos\n")
    result = airlam("list", "datasets")
    assert "datasets/mine.yaml" in result.out and "My street" in result.out and "channels/" not in result.out


def test_list_refuses_unknown_kinds(refuses):
    assert "did you mean 'predictors'" in refuses("list", "predictrs")
    assert "unknown option '--all'" in refuses("list", "--all")


def test_the_current_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shipped = find_recipe("datasets/tiny.yaml")
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "tiny.yaml").write_text("channel: umi_nlos\n")
    own = find_recipe("datasets/tiny.yaml").resolve()
    assert own == tmp_path / "datasets" / "tiny.yaml" != shipped
    assert find_recipe("tiny", kind="datasets").resolve() == own


@pytest.mark.slow
def test_doctor(airlam, monkeypatch):
    result = airlam("doctor")
    assert result.code == 0, result.out
    for word in ("torch", "sionna", "h5py", "peft", "threads", "airlam federate"):
        assert word in result.out, result.out


def test_doctor_reports_what_is_broken(airlam, monkeypatch):
    import airlam.cli.doctor as doctor

    def broken():
        raise ImportError("no such [thing]")

    monkeypatch.setattr(doctor, "CHECKS", {"torch": broken, "python": lambda: "fine"})
    result = airlam("doctor")
    assert result.code == 1 and "ImportError: no such [thing]" in result.out and "broken: torch" in result.out


def test_list_shows_the_words_of_recipes(airlam):
    lines = airlam("list", "predictors", "precoders").out.splitlines()
    found = {line.split("│")[1].strip(): line for line in lines if line.startswith("│")}
    for name in ("genie_per_bin", "genie_clusters", "genie_lmmse", "perfect", "dpc"):
        assert "in benchmarks only; bound" in found[name]
    assert "in benchmarks only; classical" in found["stack"]
    for name in ("tuned", "robust rzf", "robust slnr", "robust wmmse"):
        assert f"like ar + {name}" in found[name]
