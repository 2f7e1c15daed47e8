import copy
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler

from core.app import CONFIG
from core.errors import ConfigError
from core.overrides import VERSION_BASE
from core.preprocessing import Preprocessing
from datamodules.digits import Digits
from datamodules.dummy import Dummy
from models.base_model import ClassifierModule
from models.small.digits import DigitsCNN
from models.training import EpochSeeds, finetune, fit

Fit = Callable[..., None]

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


class Line(ClassifierModule):
    """Logits 0 and w x of an image of one pixel x."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def load_backbone(self) -> nn.Module:
        network = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
        network[1].weight.data.zero_()
        return network

    def default_preprocessing(self) -> Preprocessing:
        return Preprocessing()

    @property
    def weight(self) -> Tensor:
        return self.backbone[1].weight


ONE = [(torch.ones(1, 1, 1, 1), torch.tensor([1]))]
"""One batch: a white pixel of class 1."""


@pytest.fixture
def fit_quietly() -> Fit:
    def run(model: nn.Module, data: Any, **options: Any) -> None:
        trainer = {**QUIET, **options.pop("trainer", {})}
        fit(model, data, trainer=trainer, **options)

    return run


def test_one_step_of_gradient_descent(fit_quietly: Fit) -> None:
    # Cross-entropy at equal logits has the gradient (1/2, -1/2).
    model = Line()
    fit_quietly(model, ONE, epochs=1, optimizer="sgd", learning_rate=1.0)
    assert model.weight.flatten().tolist() == [-0.5, 0.5]


def test_a_penalty_is_added_for_this_training_alone(fit_quietly: Fit) -> None:
    model = Line()
    options = {"optimizer": "sgd", "learning_rate": 1.0, "epochs": 1}
    fit_quietly(model, ONE, penalty=lambda trained: 3 * trained.weight.sum(), **options)
    assert model.weight.flatten().tolist() == pytest.approx([-3.5, -2.5])  # gradients 0.5, -0.5
    assert model.penalty is None


def test_one_step_with_a_teacher(fit_quietly: Fit) -> None:
    # The teacher is sure of class 0: its part of the gradient at T = 1 is (-1/2, 1/2).
    teacher = Line()
    teacher.weight.data = torch.tensor([[100.0], [-100.0]])
    model = Line()
    fit_quietly(
        model, ONE, epochs=1, optimizer="sgd", learning_rate=1.0, teacher=teacher, temperature=1.0,
        distillation_weight=3.0,
    )  # fmt: skip
    assert model.weight.flatten().tolist() == pytest.approx([1.0, -1.0])  # -0.5 + 3 * 0.5


def test_the_teacher_is_left_as_it_was(fit_quietly: Fit) -> None:
    teacher = Line().train()
    fit_quietly(Line(), ONE, epochs=1, teacher=teacher)
    assert teacher.training
    assert teacher.weight.grad is None
    assert teacher.weight.flatten().tolist() == [0.0, 0.0]


def test_options_left_out_are_the_models_own(fit_quietly: Fit) -> None:
    model = Line(optimizer="sgd", learning_rate=2.0)
    fit_quietly(model, ONE, epochs=1, learning_rate=None)
    assert model.weight.flatten().tolist() == [-1.0, 1.0]


def test_another_optimizer_does_not_inherit_options(fit_quietly: Fit) -> None:
    model = Line(
        optimizer="sgd", optimizer_options={"momentum": 0.9},
        scheduler="step", scheduler_options={"step_size": 1},
    )  # fmt: skip
    fit_quietly(model, ONE, epochs=1, optimizer="adam", scheduler="onecycle")
    assert model.optimization.optimizer_options == {"momentum": 0.9}


def test_the_model_is_given_back_as_it_came(fit_quietly: Fit) -> None:
    model = Line(optimizer="sgd", learning_rate=2.0)
    names = [name for name, _ in model.named_modules()]
    before = (model.optimization, model.objective, model.augmentation)
    fit_quietly(model, ONE, epochs=1, optimizer="adam", teacher=Line(), augmentation={"shift": 1})
    assert (model.optimization, model.objective, model.augmentation) == before
    assert [name for name, _ in model.named_modules()] == names
    assert (model.training, model.weight.grad, model._trainer) == (False, None, None)
    assert model.device.type == "cpu"


def test_the_model_is_given_back_after_an_error_too(fit_quietly: Fit) -> None:
    def broken(model: nn.Module) -> None:
        raise ArithmeticError("on purpose")

    model = Line()
    objective = model.objective
    with pytest.raises(ArithmeticError, match="on purpose"):
        fit_quietly(model, ONE, epochs=1, teacher=Line(), after_step=broken)
    assert model.objective is objective
    assert [name for name, _ in model.named_modules()] == [
        "",
        "backbone",
        "backbone.0",
        "backbone.1",
    ]
    assert not model.training


def test_what_the_process_had_set_is_set_again(fit_quietly: Fit) -> None:
    model, state = Line(), torch.get_rng_state()
    flag = torch.are_deterministic_algorithms_enabled()
    fit_quietly(model, ONE, epochs=1, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.are_deterministic_algorithms_enabled() == flag


def test_masks_stay_enforced_before_the_first_step_and_after_every_one(fit_quietly: Fit) -> None:
    seen: list[float] = []
    model = Line()
    model.weight.data = torch.tensor([[5.0], [0.0]])

    def enforce(given: nn.Module) -> None:
        assert given is model
        seen.append(model.weight[0, 0].item())
        model.weight.data[0] = 0

    fit_quietly(model, ONE * 2, epochs=2, optimizer="sgd", learning_rate=1.0, after_step=enforce)
    assert len(seen) == 1 + 2 * 2
    assert seen[0] == 5.0
    assert all(weight < 0 for weight in seen[1:])
    assert model.weight[0, 0] == 0
    assert model.weight[1, 0] > 0


def test_frozen_parameters_stay(fit_quietly: Fit) -> None:
    model = DigitsCNN()
    model.backbone.conv.requires_grad_(False)
    before = {name: p.clone() for name, p in model.named_parameters()}
    fit_quietly(model, Digits(), epochs=1, trainer={"limit_train_batches": 1})
    changed = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert changed == set(before) - {"backbone.conv.weight"}


def test_nothing_to_train_is_an_error(fit_quietly: Fit) -> None:
    with pytest.raises(ConfigError, match="every parameter is frozen"):
        fit_quietly(Line().requires_grad_(False), ONE, epochs=1)


def test_a_deployed_model_is_trained_before(
    fit_quietly: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Line, "runtime", "onnxruntime")
    with pytest.raises(ConfigError, match="onnxruntime does not train; train first"):
        fit_quietly(Line().requires_grad_(False), ONE, epochs=1)


def test_half_precision_gradients_are_refused(fit_quietly: Fit) -> None:
    with pytest.raises(ConfigError, match=r"train with model\.dtype=bfloat16"):
        fit_quietly(Line(dtype="float16"), ONE, epochs=1)


def test_an_unknown_option_names_the_nearest(fit_quietly: Fit) -> None:
    with pytest.raises(ConfigError, match="'learning_rat', did you mean 'learning_rate'"):
        fit_quietly(Line(), ONE, epochs=1, learning_rat=1.0)


def test_data_of_other_classes_is_refused(fit_quietly: Fit) -> None:
    with pytest.raises(ConfigError, match=r"has 2 classes and the data 10; pass model.num_classes"):
        fit_quietly(Line(), Digits(), epochs=1)


def test_a_student_cannot_teach_itself(fit_quietly: Fit) -> None:
    model = Line()
    with pytest.raises(ConfigError, match="the teacher is the student itself"):
        fit_quietly(model, ONE, epochs=1, teacher=model)


def test_a_teacher_that_looks_at_other_sizes_is_refused(fit_quietly: Fit) -> None:
    with pytest.raises(ConfigError, match=r"the teacher looks at images of \(8, 8\)"):
        fit_quietly(Line(), ONE, epochs=1, teacher=DigitsCNN(pretrained=False))


def test_any_network_can_be_trained(fit_quietly: Fit) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2, bias=False))
    network[1].weight.data.zero_()
    batch = (torch.tensor([1.0, 0.0, 2.0]).view(1, 3, 1, 1), torch.tensor([1]))
    fit_quietly(network, [batch], epochs=1, optimizer="sgd", learning_rate=1.0)
    assert network[1].weight.tolist() == [[-0.5, 0.0, -1.0], [0.5, 0.0, 1.0]]
    assert not network.training


def test_images_come_in_the_size_the_model_wants(fit_quietly: Fit) -> None:
    shapes = set()
    model = DigitsCNN(pretrained=False)
    model.backbone.conv.register_forward_hook(lambda _, x, __: shapes.add(tuple(x[0].shape[1:])))
    data = Dummy(samples=8, size=(20, 20), num_classes=10, channels=1, batch_size=4)
    fit_quietly(model, data, epochs=1)
    assert shapes == {(1, 8, 8)}
    assert data.preprocessing is None


class Shown(pl.Callback):
    """Remembers the validation accuracy of each epoch."""

    def __init__(self) -> None:
        self.accuracies: list[float] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.accuracies.append(trainer.callback_metrics["val_accuracy"].item())


def test_every_epoch_is_validated(fit_quietly: Fit) -> None:
    shown = Shown()
    fit_quietly(
        DigitsCNN(), Digits(), epochs=2, callbacks=[shown], trainer={"limit_train_batches": 1}
    )
    assert len(shown.accuracies) == 2
    assert shown.accuracies[0] > 0.5


def weights_after(fit_quietly: Fit, **options: Any) -> Tensor:
    torch.manual_seed(0)
    model = DigitsCNN(pretrained=False)
    given = {"epochs": 1, "augmentation": {"shift": 1}, "seed": 0, **options}
    data = Digits(seed=given.pop("order", 0))
    fit_quietly(model, data, trainer={"limit_train_batches": 2}, **given)
    return model.backbone.head.weight.detach()


def test_equal_seeds_give_equal_weights(fit_quietly: Fit) -> None:
    first = weights_after(fit_quietly)
    torch.rand(7)  # the state of the process does not matter
    assert torch.equal(weights_after(fit_quietly), first)


def test_another_seed_gives_other_weights(fit_quietly: Fit) -> None:
    assert not torch.equal(weights_after(fit_quietly, seed=1), weights_after(fit_quietly))


def test_every_epoch_has_an_order_of_its_own(fit_quietly: Fit) -> None:
    orders: list[list[int]] = []

    class Order(pl.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, out: Any, batch: Any, i: int
        ) -> None:
            orders.append(batch[1].tolist())

    loader = DataLoader([(torch.ones(1, 1, 1), 0)] * 3 + [(torch.ones(1, 1, 1), 1)] * 3, 6, True)
    for _ in range(2):
        fit_quietly(Line(), loader, epochs=3, callbacks=[Order()])
    assert orders[:3] == orders[3:]
    assert len({tuple(order) for order in orders}) > 1


def test_a_training_in_parts_sees_what_one_in_a_piece_sees(fit_quietly: Fit) -> None:
    seen: list[list[float]] = []

    class Order(pl.Callback):
        def on_train_batch_end(
            self, trainer: Any, module: Any, out: Any, batch: Any, i: int
        ) -> None:
            seen.append(batch[0].flatten().tolist())

    data = [(torch.full((1, 1, 1), i / 8), i % 2) for i in range(8)]
    for parts in ([(3, 0)], [(1, 0), (2, 1)]):
        for epochs, first in parts:
            sampler = RandomSampler(data, generator=torch.Generator())
            loader = DataLoader(data, 8, sampler=sampler, generator=torch.Generator())
            fit_quietly(Line(), loader, epochs=epochs, first_epoch=first, callbacks=[Order()])
    assert seen[:3] == seen[3:]
    assert len({tuple(order) for order in seen}) == 3


class AtEpoch:
    """As much of a trainer as the seeds of an epoch look at."""

    train_dataloader = None

    def __init__(self, epoch: int) -> None:
        self.current_epoch = epoch


def drawn_in(epoch: int, *, seed: int = 0) -> list[float]:
    trainer: Any = AtEpoch(epoch)
    EpochSeeds(seed).on_train_epoch_start(trainer, Line())
    return torch.rand(3).tolist()


def test_what_an_epoch_draws_does_not_depend_on_the_epochs_before() -> None:
    first = drawn_in(4)
    torch.rand(7)
    assert drawn_in(4) == first
    assert first not in (drawn_in(5), drawn_in(4, seed=1))


def test_a_slot_without_training_does_nothing() -> None:
    model = Line()
    finetune(model, ONE, {"name": "none"}, baseline=Line())
    assert model.weight.flatten().tolist() == [0.0, 0.0]
    assert model.training


def test_a_slot_trains_with_its_settings() -> None:
    model = Line()
    settings = {
        "name": "mine",
        "epochs": 1,
        "optimizer": "sgd",
        "learning_rate": 1.0,
        "teacher": None,
    }
    finetune(model, ONE, settings, baseline=Line(), trainer=QUIET)
    assert model.weight.flatten().tolist() == [-0.5, 0.5]


def test_a_slot_can_ask_for_the_baseline_as_teacher() -> None:
    model, baseline = Line(), Line()
    baseline.weight.data = torch.tensor([[100.0], [-100.0]])
    settings = {"epochs": 1, "optimizer": "sgd", "learning_rate": 1.0, "temperature": 1.0}
    finetune(model, ONE, {**settings, "teacher": "baseline"}, baseline=baseline, trainer=QUIET)
    assert model.weight.flatten().tolist() == pytest.approx([0.0, 0.0])


def test_another_teacher_than_the_baseline_is_refused() -> None:
    with pytest.raises(ConfigError, match="is baseline or null, got 'resnet50'"):
        finetune(Line(), ONE, {"teacher": "resnet50"}, baseline=Line())


@pytest.mark.slow
@pytest.mark.parametrize("choice", ["short", "distill"])
def test_the_slots_that_ship_bring_back_half_pruned_digits(choice: str) -> None:
    with initialize_config_dir(version_base=VERSION_BASE, config_dir=str(CONFIG)):
        composed = compose(overrides=[f"+finetune={choice}"])
    settings: Any = OmegaConf.to_container(composed.finetune, resolve=True)
    baseline = DigitsCNN().eval()
    model = copy.deepcopy(baseline)
    silence_half(model)
    images, labels = Digits().dataset("test").__getitems__(list(range(359)))

    def accuracy() -> float:
        with torch.inference_mode():
            return (model(images).argmax(1) == labels).float().mean().item()

    broken = accuracy()
    finetune(model, Digits(), settings, baseline=baseline, after_step=silence_half, trainer=QUIET)
    assert broken < 0.9
    assert accuracy() > 0.95
    assert sum(int((b.bn1.weight == 0).sum()) for b in blocks(model)) == (16 + 32 + 48) // 2


def blocks(model: nn.Module) -> list[Any]:
    return [model.get_submodule(f"backbone.block{i}") for i in (1, 2, 3)]


def silence_half(model: nn.Module) -> None:
    """Switch off the first half of the inner channels of every block."""
    for block in blocks(model):
        half = len(block.bn1.weight) // 2
        block.bn1.weight.data[:half] = 0
        block.bn1.bias.data[:half] = 0
