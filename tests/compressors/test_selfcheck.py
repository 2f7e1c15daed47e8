import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compressors import selfcheck
from compressors.selfcheck import SelfCheckError, State, check_reload, same_function, verify
from compressors.tracing import look_at
from core.errors import IncompatibleModel
from models import exported
from models.edits import Edits, perform
from models.small.digits import DigitsCNN

IMAGES = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0))
EDITS = Edits(removed={"0": {"out": [1]}, "2": {"in": [1]}})


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*layers, nn.Flatten())


def narrow(edits: Edits = EDITS) -> nn.Module:
    model = network()
    perform(model, edits)
    return model


def check(after: nn.Module, edits: Edits | None = EDITS, **changed: Any) -> selfcheck.Checked:
    before = network()
    given = {"look": look_at(before, IMAGES), "untouched": State.kept(before), **changed}
    return verify(before, after, edits, IMAGES, **given)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out storing and timing."""
    monkeypatch.setattr(selfcheck, "check_reload", lambda *_: selfcheck.Stored())
    monkeypatch.setattr(selfcheck, "latency_ratio", lambda *_, **__: 1.0)


def test_a_sound_compression_passes_and_is_recorded() -> None:
    achieved = check(narrow()).achieved
    # 4 filters of 10 and 3 of 37 become 3 of 10 and 3 of 28
    assert (achieved["params_before"], achieved["params_after"]) == (151, 114)
    assert achieved["removed"] == pytest.approx(37 / 151)
    # 16 and 4 pixels: 4*9*16 + 3*36*4 and 3*9*16 + 3*27*4
    assert (achieved["macs_before"], achieved["macs_after"]) == (1008, 756)
    assert (achieved["weight_bytes_before"], achieved["weight_bytes_after"]) == (604, 456)
    assert achieved["latency_ratio"] > 0


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("edits", "warm"), [(EDITS, True), (None, False)])
def test_only_what_a_comparison_has_run_is_timed_without_a_warm_up(
    edits: Edits | None, warm: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[bool] = []
    monkeypatch.setattr(
        selfcheck, "latency_ratio", lambda *_, warm: given.append(warm) or float(len(given))
    )
    check(narrow(), edits)
    assert given == [warm]


@pytest.mark.usefixtures("quick")
def test_removed_logits_are_noticed() -> None:
    edits = Edits(removed={"2": {"out": [0]}})
    with pytest.raises(SelfCheckError, match="the logits would be 2 instead of 3"):
        check(narrow(edits), edits)
    with pytest.raises(SelfCheckError, match=r"expected logits of shape \(1, 3\), got \(1, 2\)"):
        check(narrow(edits), None)


@pytest.mark.usefixtures("quick")
def test_another_channel_than_the_recorded_one_is_noticed() -> None:
    wrong = Edits(removed={"0": {"out": [1]}, "2": {"in": [2]}})
    with pytest.raises(SelfCheckError, match="the removed and the masked model differ by"):
        check(narrow(wrong), wrong)


@pytest.mark.usefixtures("quick")
def test_a_model_that_is_as_before_is_an_error() -> None:
    with pytest.raises(IncompatibleModel, match="nothing changed"):
        check(network())


@pytest.mark.usefixtures("quick")
def test_a_changed_input_is_noticed() -> None:
    with pytest.raises(SelfCheckError, match="the input model was changed"):
        check(narrow(), untouched=State.kept(narrow()))


@pytest.mark.usefixtures("quick")
def test_a_model_without_gradients_is_noticed() -> None:
    class Deaf(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).detach().requires_grad_()

    after = narrow()
    after.__class__ = Deaf
    with pytest.raises(SelfCheckError, match="backward gives no finite gradients"):
        check(after)


@pytest.mark.usefixtures("quick")
def test_the_checked_model_keeps_no_gradients() -> None:
    after = narrow()
    check(after)
    assert all(p.grad is None for p in after.parameters())


def test_other_logits_after_a_reload_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Off(nn.Module):
        def module(self) -> nn.Module:
            return self

        def forward(self, x: Tensor) -> Tensor:
            return narrow()(x) + 1e-3

    monkeypatch.setattr(exported, "load_program", lambda _: Off())
    with pytest.raises(SelfCheckError, match=r"reloads to other logits, 0\.001 away"):
        check_reload(narrow().eval(), IMAGES)


def test_a_class_that_cannot_come_back_is_told() -> None:
    class Local(DigitsCNN):
        """Nobody can import it."""

    stored = check_reload(Local(pretrained=False).eval(), torch.rand(2, 1, 8, 8))
    assert "the stored model is loaded for inference only: its class cannot be" in stored.no_class
    assert stored.no_program == ""


def test_export_that_worked_before_has_to_work_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selfcheck, "check_reload", lambda *_: selfcheck.Stored(no_program="no"))
    with pytest.raises(SelfCheckError, match="no; before the compression it could"):
        check(narrow())


def test_export_that_never_worked_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bytes:
        raise IncompatibleModel("no")

    monkeypatch.setattr(selfcheck, "check_reload", lambda *_: selfcheck.Stored(no_program="no"))
    monkeypatch.setattr(exported, "export_bytes", refuse)
    assert check(narrow()).notes == ["no, so a stored model needs its class"]


def test_rounding_is_told_from_a_difference() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 1000), nn.Linear(1000, 3)).eval()
    model[2].weight.data *= 1e5  # logits of 1e4, of which float32 resolves 0.001
    squares = [i * i for i in range(31)]
    edits = Edits(removed={"1": {"out": squares}, "2": {"in": squares}})
    edited = copy.deepcopy(model)
    perform(edited, edits)
    sound = same_function(model, edited, edits, IMAGES)
    assert sound.fault == ""
    assert sound.note.startswith("float32 rounds the removed and the masked model")
    edited[2].bias.data += 0.1
    assert (
        "differ by 0.1, expected at most 1e-05" in same_function(model, edited, edits, IMAGES).fault
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[0].weight.data.view(-1)[0].add_(1e-6),
        lambda m: m[0].weight.requires_grad_(False),
        lambda m: m[1].train(),
        lambda m: m[2].bias.data.neg_(),
    ],
    ids=["one_bit", "frozen", "mode", "sign"],
)
def test_a_state_sees_every_change(change: Any) -> None:
    model = network().eval()
    before = State.kept(model)
    assert State(copy.deepcopy(model)) == before
    change(model)
    assert State(model) != before


def test_nothing_is_left_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    check_reload(narrow().eval(), IMAGES)
    assert list(tmp_path.iterdir()) == []
