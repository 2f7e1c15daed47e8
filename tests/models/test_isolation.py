import logging
import warnings

import pytest
import torch

from models.isolation import advice_silenced, own_random_stream, torch_flags_kept


def test_random_numbers_inside_depend_on_the_seed_alone() -> None:
    drawn = []
    for _ in range(2):
        torch.rand(3)
        with own_random_stream(5):
            drawn.append(torch.rand(4))
    assert torch.equal(*drawn)


def test_random_numbers_outside_go_on_as_if_nothing_was_drawn() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with own_random_stream(5):
        torch.rand(100)
    assert torch.equal(torch.rand(2), expected)


def test_flags_are_put_back_after_an_error() -> None:
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark

    def switch() -> None:
        with torch_flags_kept():
            torch.use_deterministic_algorithms(not before[0])
            torch.backends.cudnn.benchmark = not before[1]
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        switch()
    after = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    assert after == before


def test_advice_is_not_shown_and_other_warnings_are() -> None:
    with advice_silenced():
        warnings.warn("The 'train_dataloader' does not have many workers", stacklevel=1)
        with pytest.warns(UserWarning, match="loss is NaN"):
            warnings.warn("loss is NaN", stacklevel=1)


def test_the_level_of_the_log_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    monkeypatch.setattr(log, "level", logging.INFO)
    with advice_silenced():
        assert log.level == logging.WARNING
    assert log.level == logging.INFO
