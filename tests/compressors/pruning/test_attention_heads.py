from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers.attention import Attention
from torch import Tensor, nn

from compressors.base import Decision
from compressors.export import masks_of
from compressors.pruning.attention_heads import AttentionHeads, by_head
from compressors.resources import Resources
from compressors.selfcheck import same_function
from core.errors import ConfigError, IncompatibleModel
from models.artifacts import load_artifact, save_artifact
from models.attention import KeptHeads
from models.edits import Edits, enforce, perform
from models.timm_model import TimmModel

TOKENS = torch.rand(3, 5, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 1])
GIVEN = Resources(
    batches=lambda _: iter([(TOKENS[:2], LABELS[:2]), (TOKENS[2:], LABELS[2:])]),
    score=lambda _: 0.0,
    train=lambda *_, **__: None,
)


class FirstToken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]


def network(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    attention = Attention(8, num_heads=4, **{"qkv_bias": True, **options})
    return nn.Sequential(OrderedDict(a=attention, t=FirstToken(), h=nn.Linear(8, 2))).eval()


def plan(model: nn.Module, **options: Any) -> Decision:
    return AttentionHeads(**{"sparsity": 0.5, **options}).plan(model, TOKENS, GIVEN)


def test_the_heads_of_least_magnitude_go() -> None:
    model = network()
    model.a.qkv.weight.data.fill_(0.1)
    model.a.proj.weight.data.fill_(0.1)
    model.a.qkv.weight.data[8 + 2] = 0.0  # a key of head 1
    model.a.proj.weight.data[:, 6] = 0.01  # head 3
    edits = plan(model, criterion="l1").edits
    assert edits.replaced["a"]["removed"] == [1, 3]


def test_magnitudes_need_no_data() -> None:
    recipe = AttentionHeads(sparsity=0.5, criterion="l1")
    given = plan(network(), criterion="l1").edits
    assert recipe.plan(network(), TOKENS).edits == given
    with pytest.raises(ConfigError, match="needs batches"):
        AttentionHeads(sparsity=0.5).plan(network(), TOKENS)


def test_what_belongs_to_a_head() -> None:
    attention = Attention(4, num_heads=2)
    rows, columns = torch.zeros(12, 4), torch.zeros(4, 4)
    rows[[2, 3, 6, 7, 10, 11]] = 1
    columns[:, 2:] = 1
    assert by_head(attention, rows, columns).mean(dim=1).tolist() == [0, 1]


def test_taylor_ranks_by_the_squared_effect_of_each_weight() -> None:
    model = network()
    gains = torch.zeros(4)
    for images, labels in GIVEN.batches(9):
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        for layer, dim in ((model.a.qkv, 0), (model.a.proj, 1)):
            gain = (layer.weight.grad * layer.weight).detach().square().sum(dim=1 - dim)
            gains += gain.view(-1, 4, 2).sum(dim=(0, 2)) / 2
    pruner = AttentionHeads(sparsity=0.5, statistics_batches=2)
    task = pruner._task(model, TOKENS, GIVEN)
    scores = pruner._scores(task, {"a": task.model.a})["a"]
    torch.testing.assert_close(scores.float(), gains, rtol=1e-4, atol=0)
    expected = sorted(gains.argsort()[:2].tolist())
    assert plan(model, statistics_batches=2).edits.replaced["a"]["removed"] == expected


@pytest.mark.parametrize("options", [{}, {"qkv_bias": False}, {"attn_head_dim": 3}], ids=str)
def test_removed_heads_are_zeroed_heads(options: dict[str, Any]) -> None:
    model = network(**options)
    size = model.a.head_dim
    after = nn.Sequential(OrderedDict(model.named_children()))
    perform(
        after, Edits(replaced={"a": {"_target_": "models.attention.KeptHeads", "removed": [2]}})
    )
    silent = network(**options)
    silent.a.proj.weight.data[:, 2 * size : 3 * size] = 0
    torch.testing.assert_close(after(TOKENS), silent(TOKENS))
    assert after.a.attention.num_heads == 3
    assert after.a.attention.qkv.weight.shape == (9 * size, 8)


@pytest.mark.slow  # two whole compressions with their checks
def test_it_is_done_again_to_what_is_left() -> None:
    once = AttentionHeads(sparsity=0.5).compress(network(), TOKENS, GIVEN)
    twice = AttentionHeads(sparsity=0.5).compress(once.model, TOKENS, GIVEN)
    assert twice.model.a.attention.attention.num_heads == 1
    assert once.model.a.attention.num_heads == 2
    assert once.report.achieved["removed"] > 0.4


def test_zeros_of_an_earlier_step_are_told_and_stop_no_training() -> None:
    model = network()
    zero = torch.zeros_like(model.a.qkv.weight, dtype=torch.bool)
    zero[:, 0] = True
    perform(model, Edits(masked={"a.qkv.weight": zero}))
    decision = plan(model, criterion="l1")
    assert decision.notes == ["training may fill zeros that an earlier step made in the heads left"]
    perform(model, decision.edits)
    assert not model.a.attention.qkv.weight[:, 0].any()
    enforce(model)


def test_one_head_stays() -> None:
    assert len(plan(network(), sparsity=0.99).edits.replaced["a"]["removed"]) == 3


def test_too_little_is_told() -> None:
    with pytest.raises(IncompatibleModel, match=r"a: 0\.2 of 4 heads rounds to nothing"):
        plan(network(), sparsity=0.2)


def test_an_attention_with_a_gate_is_named_and_left() -> None:
    with pytest.raises(IncompatibleModel, match="a: left whole, a gate or a norm follows"):
        plan(network(gated=True))


def test_another_attention_is_named_and_left() -> None:
    other = type("Attention", (nn.Linear,), {"__module__": "elsewhere"})
    model = nn.Sequential(OrderedDict(a=other(8, 8), t=FirstToken(), h=nn.Linear(8, 2)))
    with pytest.raises(
        IncompatibleModel, match=r"not the Attention of timm\.layers, but .*elsewhere"
    ):
        plan(model)
    with pytest.raises(IncompatibleModel, match=r"not the Attention of timm\.layers"):
        KeptHeads.of(model.a, removed=[0])


def test_a_wrong_removal_becomes_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    made = KeptHeads.of.__func__
    other = classmethod(lambda cls, layer, *, removed: made(cls, layer, removed=[0, 1]))
    monkeypatch.setattr(KeptHeads, "of", other)
    model = network()
    model.a.proj.weight.data[:, 4:] *= 0.01  # heads 2 and 3
    decision = plan(model, criterion="l1")
    assert not decision.edits.replaced
    assert "heads are zero instead of removed" in decision.notes[-1]
    zeros = decision.edits.masked["a.proj.weight"]
    assert zeros.all(dim=0).view(4, 2).all(dim=1).sum() == 2
    assert not same_function(model, model, decision.edits, TOKENS).note


@pytest.mark.parametrize("wrong", [{"criterion": "l2"}, {"statistics_batches": 0}], ids=str)
def test_options_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"compressor\."):
        AttentionHeads(sparsity=0.5, **wrong)


@pytest.mark.slow
def test_a_vision_transformer_of_timm_reloads_without_its_heads(tmp_path: Path) -> None:
    model = TimmModel("test_vit", pretrained=False, num_classes=10)
    images = torch.rand(2, 3, 160, 160)
    given = replace(GIVEN, batches=lambda _: iter([(images, LABELS[:2])]))
    pruner = AttentionHeads(sparsity=0.5, exclude=["blocks.0.*"])
    result = pruner.compress(model, images, given)
    names = [f"backbone.blocks.{i}.attn" for i in range(1, 6)]
    assert [*result.edits.replaced] == names
    assert result.report.achieved["params_after"] < result.report.achieved["params_before"]
    again = load_artifact(save_artifact(tmp_path, result.model, example_inputs=images))
    assert again.backbone.blocks[3].attn.attention.num_heads == 1
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(images), result.model.eval()(images))


def test_the_heads_that_went_have_masks() -> None:
    before, after = network(), network()
    perform(
        after, Edits(replaced={"a": {"_target_": "models.attention.KeptHeads", "removed": [1]}})
    )
    masks = masks_of(before, after)
    assert set(masks) == {"a.qkv", "a.proj"}
    assert masks["a.qkv"]["weight"].all(dim=1).nonzero().flatten().tolist() == [
        2,
        3,
        10,
        11,
        18,
        19,
    ]
    assert masks["a.proj"]["weight"].all(dim=0).nonzero().flatten().tolist() == [2, 3]
    assert not masks["a.proj"]["bias"].any()
