"""Recipes of servers: what is refused, and why."""

from __future__ import annotations

import pytest

from airlam.errors import RecipeError
from airlam.serving.config import ServingConfig
from airlam.serving.listening import TOKEN, Listen


def test_recipe_and_changes():
    config = ServingConfig.read("tasks/serving/default.yaml", {"listen.port": 9000, "replicas": 2})
    assert config.listen.port == 9000 and config.replicas == 2 and config.batching.largest == 16


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"predictors": {"a b": {}}}, "names are letters"),
        ({"predictors": {"ar": {"sauce": "x"}}}, "no key 'sauce'; did you mean 'source'"),
        ({"classic": "arr", "predictors": {"ar": {}}}, "did you mean 'ar'"),
        ({"batching": {"largest": 0}}, "batching.largest is 0, but must be between 1"),
        ({"listen": {"port": 99999}}, "listen.port is 99999"),
        ({"groups": [["backbone"], ["tokenizer", "heads"]]}, "must cut tokenizer, backbone, heads"),
        ({"groups": [["precoding"], ["tokenizer", "backbone", "heads"]]}, "the tokenizer's first"),
        ({"groups": [["tokenizer", "backbone", "heads", "classics"], ["classics"]]}, "in one of their own, once"),
        ({"predictors": {"ar": {"runtime": "magic"}}}, "runtime is 'magic', but must be one of torch, kernels"),
        ({"predictors": []}, "must be a mapping"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(given, message):
    with pytest.raises(RecipeError, match=message) as error:
        ServingConfig(**{"predictors": {"ar": {}}, "classic": "", **given})
    assert "\n" not in str(error.value)


def test_other_hosts_need_a_token_and_tls(tmp_path, monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)
    for host in ("0.0.0.0", "192.168.0.7", "example.org", "::"):
        with pytest.raises(RecipeError, match="which other hosts reach: give a token"):
            Listen(host=host)
    files = {name: tmp_path / name for name in ("certificate", "key", "token_file")}
    for file in files.values():
        file.write_text("a secret of enough length".replace(" ", "-"))
    paths = {name: str(path) for name, path in files.items()}
    assert Listen(host="0.0.0.0", **paths).scheme == "https"
    with pytest.raises(RecipeError, match="which other hosts reach"):
        Listen(host="0.0.0.0", token_file=paths["token_file"])
    with pytest.raises(RecipeError, match="go together"):
        Listen(certificate=paths["certificate"])


def test_secrets_stand_in_no_report(monkeypatch):
    monkeypatch.setenv(TOKEN, "this-is-a-secret-token")
    config = ServingConfig(predictors={"hold": {}}, classic="hold")
    assert config.listen.secret() == "this-is-a-secret-token"
    assert "this-is-a-secret-token" not in repr(config) + repr(config.plain())
    monkeypatch.setenv(TOKEN, "short")
    with pytest.raises(RecipeError, match="has 5 characters, but must be at least 16") as error:
        config.listen.secret()
    assert "short" not in str(error.value)
