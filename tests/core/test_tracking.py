import os

import pytest

from core.tracking import wandb_for


@pytest.mark.parametrize(("mode", "told"), [("offline", "false"), ("online", None)])
def test_only_an_online_run_may_report_errors_to_the_makers_of_wandb(
    mode: str, told: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_ERROR_REPORTING")
    assert wandb_for(mode).__name__ == "wandb"
    assert os.environ.get("WANDB_ERROR_REPORTING") == told


def test_what_a_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "true")
    wandb_for("offline")
    assert os.environ["WANDB_ERROR_REPORTING"] == "true"
