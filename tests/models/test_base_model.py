import copy
import pickle
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from core.errors import ConfigError, NotApplicable
from core.preprocessing import Preprocessing
from models.base_model import ClassifierModule


class Sums(nn.Module):
    """Logits are the sum over the image of each of three channels, and of all: worked by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1, bias=False)
        self.fc = nn.Linear(3, 4, bias=False)
        self.conv.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.fc.weight.data = torch.cat([torch.eye(3), torch.ones(1, 3)])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).sum((2, 3)))


class SumsModel(ClassifierModule):
    def load_backbone(self) -> nn.Module:
        return Sums()


class ScaledModel(SumsModel):
    def default_preprocessing(self) -> Preprocessing:
        return Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.25, 1.0))


class GreyModel(ClassifierModule):
    def load_backbone(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LazyLinear(2))


class HeadlessModel(ClassifierModule):
    def load_backbone(self) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())


IMAGE = torch.tensor([0.5, 1.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 2, 2)


def test_forward_gives_the_logits_of_the_backbone() -> None:
    assert SumsModel()(IMAGE).tolist() == [[2.0, 4.0, 0.0, 6.0]]


def test_forward_normalises_with_the_mean_and_scale_of_the_model() -> None:
    # (0.5 - 0.5) / 0.5 = 0; (1 - 0.5) / 0.25 = 2; (0 - 0.5) / 1 = -0.5; four pixels each
    assert ScaledModel()(IMAGE).tolist() == [[0.0, 8.0, -2.0, 6.0]]


def test_a_grey_image_goes_into_every_channel_of_a_colour_model() -> None:
    grey = torch.full((1, 1, 1, 1), 0.5)
    assert SumsModel()(grey).tolist() == [[0.5, 0.5, 0.5, 1.5]]


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_colour_image_is_refused_by_a_grey_model() -> None:
    model = GreyModel(num_classes=2)
    with pytest.raises(ValueError, match=r"images of 1 channel, got 3 \(\[2, 3, 4, 4\]\)"):
        model(torch.rand(2, 3, 4, 4))


@pytest.mark.parametrize(
    "images",
    [torch.rand(3, 4, 4), torch.randint(255, (1, 3, 4, 4), dtype=torch.uint8)],
    ids=["no batch", "bytes"],
)
def test_what_is_no_batch_of_float_images_is_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"expected float images \[B, K, H, W\]"):
        SumsModel()(images)


def test_features_are_what_the_head_sees() -> None:
    model = SumsModel()
    assert model.forward_features(IMAGE).tolist() == [[2.0, 4.0, 0.0]]
    assert model.embedding_dim == 3
    assert not model.head._forward_pre_hooks


def test_logits_and_features_come_from_one_pass() -> None:
    model = SumsModel()
    calls: list[int] = []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    logits, features = model.logits_and_features(IMAGE)
    assert len(calls) == 1
    torch.testing.assert_close(model.head(features), logits)


def test_the_head_is_still_known_after_it_was_split_in_two() -> None:
    model = SumsModel()
    model.backbone.fc = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4))
    assert model.forward_features(IMAGE).tolist() == [[2.0, 4.0, 0.0]]
    assert model.embedding_dim == 3


def test_a_network_without_a_head_says_what_to_override() -> None:
    model = HeadlessModel(num_classes=5)
    assert model(IMAGE).shape == (1, 5)
    with pytest.raises(NotApplicable, match="override forward_features"):
        model.forward_features(IMAGE)


def test_a_width_that_cannot_be_found_has_to_be_told() -> None:
    with pytest.raises(ConfigError, match="pass num_classes"):
        HeadlessModel()


def test_another_width_than_that_of_the_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="num_classes=7, but the network has 4 logits"):
        SumsModel(num_classes=7)


def test_the_width_is_that_of_the_network() -> None:
    assert SumsModel().num_classes == 4


def test_a_class_that_names_no_network_says_so() -> None:
    with pytest.raises(ConfigError, match=r"pass model\.timm_name or override load_backbone"):
        ClassifierModule()


def test_two_checkpoints_are_refused() -> None:
    with pytest.raises(ConfigError, match="not both"):
        SumsModel(checkpoint="a.pt", checkpoint_url="https://example.org/a.pt")


def test_an_unknown_precision_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'bfloat16'"):
        SumsModel(dtype="bfloat")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_lower_precision_computes_coarsely_and_answers_in_float32(dtype: str) -> None:
    image = torch.full((1, 3, 1, 1), 1 / 3)
    logits = SumsModel(dtype=dtype)(image)
    exact = SumsModel()(image)
    assert logits.dtype == torch.float32
    assert not torch.equal(logits, exact)
    torch.testing.assert_close(logits, exact, rtol=2**-7, atol=0)  # 8 bits, or more


def test_full_precision_leaves_an_autocast_of_the_caller_alone() -> None:
    image = torch.full((1, 3, 1, 1), 1 / 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = SumsModel()(image)
    assert not torch.equal(logits, SumsModel()(image))


def test_a_model_cast_as_a_whole_takes_float32_images() -> None:
    model = SumsModel().to(torch.bfloat16)
    assert model(IMAGE).tolist() == [[2.0, 4.0, 0.0, 6.0]]


def test_numerics_say_what_decides_the_last_digits() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        numerics = SumsModel(dtype="float16").numerics()
    assert numerics == {
        "dtype": "float16",
        "device": "cpu",
        "runtime": "torch",
        "matmul_precision": "highest",
        "tf32_matmul": False,
        "tf32_conv": False,
        "autocast": "bfloat16",
    }


def test_the_baseline_is_no_part_of_the_model() -> None:
    model, baseline = SumsModel(), SumsModel()
    before = sorted(model.state_dict())
    model.baseline = baseline
    assert model.baseline is baseline
    assert sorted(model.state_dict()) == before
    assert baseline not in list(model.modules())


def test_a_model_has_no_baseline_until_it_gets_one() -> None:
    assert SumsModel().baseline is None


def test_a_copy_shares_the_baseline_and_nothing_else() -> None:
    model = SumsModel()
    model.baseline = SumsModel()
    twin = copy.deepcopy(model)
    twin.backbone.fc.weight.data.zero_()
    assert twin.baseline is model.baseline
    assert model(IMAGE).tolist() == [[2.0, 4.0, 0.0, 6.0]]


def test_a_pickled_model_comes_back_whole() -> None:
    model = ScaledModel(learning_rate=0.5)
    model.baseline = SumsModel()
    twin = pickle.loads(pickle.dumps(model))
    assert torch.equal(twin(IMAGE), model(IMAGE))
    assert twin.constructor == model.constructor
    assert twin.baseline(IMAGE).tolist() == [[2.0, 4.0, 0.0, 6.0]]


def test_preprocessing_can_be_changed() -> None:
    model = ScaledModel()
    model.preprocessing = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3)
    assert model(IMAGE).tolist() == [[2.0, 4.0, 0.0, 6.0]]
    assert sorted(model.state_dict()) == ["backbone.conv.weight", "backbone.fc.weight"]


def test_preprocessing_of_an_unknown_network_changes_nothing() -> None:
    assert SumsModel().preprocessing == Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3)


LIGHTNING = pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec")
"""Lightning 2.6 asks torch in a way that torch no longer likes."""


def quiet_trainer(**options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


@LIGHTNING
def test_a_trainer_predicts_logits_and_leaves_no_trace() -> None:
    model = SumsModel()
    names = [name for name, _ in model.named_modules()]
    loader = DataLoader([(IMAGE[0], 0), (IMAGE[0] * 2, 1)], batch_size=2)
    (logits,) = quiet_trainer().predict(model, loader)
    assert logits.tolist() == [[2.0, 4.0, 0.0, 6.0], [4.0, 8.0, 0.0, 12.0]]
    assert [name for name, _ in model.named_modules()] == names
    assert torch.equal(copy.deepcopy(model)(IMAGE), model(IMAGE))


@LIGHTNING
def test_a_trainer_shows_the_share_of_right_answers() -> None:
    # The fourth logit is the largest: 1 of 4 labels is right. A mean over classes would be 1/2.
    model = SumsModel()
    loader = DataLoader([(IMAGE[0], label) for label in (3, 0, 0, 0)], batch_size=3)
    (shown,) = quiet_trainer().validate(model, loader, verbose=False)
    assert shown["val_accuracy"] == pytest.approx(0.25)
    names = [name for name, _ in model.named_modules()]
    assert "val_accuracy" not in names
