"""Attacks as views: who is attacked, what is kept of it, and what is found again."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from core.errors import NotApplicable
from core.names import MODEL
from core.preprocessing import Preprocessing
from models.base_model import ClassifierModule
from recording.key import chosen_ids
from recording.recorder import Recorder, RecordingOptions
from recording.records import Records

LIBRARY = {
    "dummy": {
        "_target_": "datamodules.dummy.Dummy",
        "num_classes": 4,
        "size": [6, 6],
        "channels": 1,
        "samples": 11,
    }
}


class Small(ClassifierModule):
    """A network whose weights follow from a seed; its BatchNorm would change while training."""

    def __init__(self, seed: int = 0, side: int = 6) -> None:
        self._seed_and_side = (seed, side)
        super().__init__()

    def load_backbone(self) -> nn.Module:
        seed, side = self._seed_and_side
        torch.manual_seed(seed)
        width = 4 * (side - 2) ** 2
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(width, 4)
        )

    def default_preprocessing(self) -> Preprocessing:
        side = self._seed_and_side[1]
        return Preprocessing(size=(side, side))


def recorder(root: Path, **options: object) -> Recorder:
    return Recorder(RecordingOptions(root=root, **{"batch_size": 4, **options}), LIBRARY)


def logits(records: Records) -> Tensor:
    return torch.cat([records.topk_ids[:, :4].float(), records.topk_logits[:, :4]], dim=1)


def test_an_attack_is_found_again_and_weakens(tmp_path: Path) -> None:
    model, first = Small(), recorder(tmp_path)
    clean, seen = first.records(model, "dummy"), first.records(model, "dummy", view="pgd_40_k6")
    assert seen.log_p_label.mean() < clean.log_p_label.mean()
    assert seen.zero_gradient.dtype == torch.bool
    assert not seen.zero_gradient[clean.correct].any()  # of what is wrong anyway it may be 0
    again = recorder(tmp_path)
    assert torch.equal(logits(again.records(model, "dummy", view="pgd_40_k6")), logits(seen))
    assert (first.passes, again.passes) == (2, 0)


def test_the_attacked_model_is_in_the_key_and_one_that_is_the_baseline_finds_its_own(
    tmp_path: Path,
) -> None:
    model, asked = Small(1), recorder(tmp_path)
    keys = []
    for seed in (2, 3):
        model.baseline = Small(seed)
        found = asked.describe(model, "dummy", "test", "transfer_pgd_8")
        assert found.view["source"]["model"] == model.baseline.fingerprint() != found.model
        keys.append(found.key)
    own = asked.describe(model, "dummy", "test", "pgd_8")
    assert own.view["source"]["model"] == own.model
    assert len({own.key, *keys}) == 3
    alone = asked.describe(model.baseline, "dummy", "test", "transfer_pgd_8")
    assert alone.key == asked.describe(model.baseline, "dummy", "test", "pgd_8").key


def test_what_is_made_against_an_equal_baseline_is_the_attack_on_the_model(tmp_path: Path) -> None:
    model, asked = Small(), recorder(tmp_path)
    model.baseline = Small()
    white = asked.records(model, "dummy", view="pgd_40_k6")
    equal = asked.records(model, "dummy", view="transfer_pgd_40_k6")
    assert asked.passes == 2
    assert torch.equal(logits(equal), logits(white))
    model.baseline = Small(5)
    other = asked.records(model, "dummy", view="transfer_pgd_40_k6")
    assert not torch.equal(logits(other), logits(white))
    assert other.log_p_label.mean() > white.log_p_label.mean()


def test_nothing_of_a_model_is_changed(tmp_path: Path) -> None:
    model = Small()
    model.baseline = Small(5)
    both = [model, model.baseline]
    for one in both:
        one.train()
        one.backbone[1].eval()
    before = [one.fingerprint() for one in both]
    recorder(tmp_path).records(model, "dummy", view="transfer_pgd_8_k2")
    recorder(tmp_path).records(model, "dummy", view="fgsm_8")
    assert [one.fingerprint() for one in both] == before
    for one in both:
        assert all(part.grad is None and part.requires_grad for part in one.parameters())
        assert one.training
        assert one.backbone[0].training
        assert not one.backbone[1].training


@pytest.mark.parametrize("batch_size", [1, 512], ids=str)
def test_decisions_under_attack_do_not_depend_on_the_batch_size(
    tmp_path: Path, batch_size: int
) -> None:
    wanted = recorder(tmp_path / "a").records(Small(), "dummy", view="pgd_8_k4")
    found = recorder(tmp_path / "b", batch_size=batch_size).records(
        Small(), "dummy", view="pgd_8_k4"
    )
    assert torch.equal(found.predicted, wanted.predicted)
    torch.testing.assert_close(found.max_logit, wanted.max_logit, rtol=0, atol=1e-4)


def test_fewer_samples_are_part_of_the_key_and_among_those_of_more(tmp_path: Path) -> None:
    model, asked = Small(), recorder(tmp_path)
    some = asked.records(model, "dummy", view="fgsm_8", samples=5)
    assert some.sample_id.tolist() == chosen_ids(11, 5).tolist()
    more = asked.records(model, "dummy", view="fgsm_8", samples=11)
    assert len(more) == 11
    assert torch.equal(some.predicted, more.predicted[some.sample_id])
    keys = [asked.describe(model, "dummy", "test", "fgsm_8", samples=n).key for n in (5, 11, None)]
    assert keys[0] != keys[1] == keys[2]
    limited = recorder(tmp_path, limit_samples=4)
    assert limited.samples(model, "dummy", "test", 5) == 4


def test_what_has_no_meaning_is_said(tmp_path: Path) -> None:
    model, asked = Small(), recorder(tmp_path)
    with pytest.raises(NotApplicable, match="needs labels"):
        asked.records(model, "dummy", view="fgsm_8", classes_of=MODEL)
    model.baseline = Small(side=5)
    with pytest.raises(NotApplicable, match=r"\(5, 5\) cannot be shown to one of \(6, 6\)"):
        asked.records(model, "dummy", view="transfer_fgsm_8")
    with pytest.raises(LookupError, match="attacks are fgsm_"):
        asked.records(model, "dummy", view="pgd_8_x3")


@pytest.mark.slow
def test_two_ranks_attack_as_one_does(tmp_path: Path) -> None:
    model = Small()
    model.baseline = Small(5)
    one = recorder(tmp_path / "one", threads=1)
    two = recorder(tmp_path / "two", threads=1, trainer={"accelerator": "cpu", "devices": 2})
    found, wanted = (each.records(model, "dummy", view="transfer_pgd_8_k3") for each in (two, one))
    assert torch.equal(logits(found), logits(wanted))
    assert found.column("zero_gradient").equal(wanted.column("zero_gradient"))
