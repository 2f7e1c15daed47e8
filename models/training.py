"""The one training loop: from scratch, fine-tuning after compression, distillation."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from functools import partial
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from core.digest import digest
from core.errors import ConfigError, unknown
from models.augmentation import Augmentation
from models.base_model import ClassifierModule
from models.distillation import Distillation
from models.isolation import advice_silenced, own_random_stream, torch_flags_kept
from models.modes import evaluating
from models.optimization import Optimization
from models.wrapped import WrappedModel

Batches = Iterable[tuple[Tensor, Tensor]]

QUIET = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "deterministic": True,
    "devices": 1,
}
"""Trainer options of a training that leaves nothing behind but the weights."""


def fit(
    model: nn.Module,
    data: pl.LightningDataModule | Batches,
    *,
    epochs: int | None = None,
    augmentation: Mapping[str, Any] | None = None,
    teacher: nn.Module | None = None,
    temperature: float = 4.0,
    distillation_weight: float = 1.0,
    first_epoch: int = 0,
    after_step: Callable[[nn.Module], None] | None = None,
    penalty: Callable[[nn.Module], Tensor] | None = None,
    seed: int = 0,
    trainer: Mapping[str, Any] | None = None,
    callbacks: Sequence[pl.Callback] = (),
    resume: str | None = None,
    **optimization: Any,
) -> None:
    """Train `model` in place; afterwards it is in eval mode, on the device it came from.

    Equal arguments and threads give equal weights on a CPU, also where the training went on from
    the checkpoint of an epoch's end. The random stream of the process is left as it was.

    Args:
        model: A ClassifierModule, trained by its own `training_step`, or any network from images
            in [0, 1] to logits.
        data: A datamodule, validated after every epoch where it has a `val` split; or batches of
            images and labels that can be gone through once an epoch.
        epochs: Passes over the data; None = `trainer.max_epochs`.
        augmentation: Arguments of `Augmentation`: `shift`, `flip`.
        teacher: Model whose outputs are learned beside the labels; left as it was.
        temperature: Of the teacher's outputs.
        distillation_weight: Of the divergence from the teacher; the cross-entropy has 1.
        first_epoch: Epochs that the model was trained before, elsewhere: what is random in an epoch
            follows from the seed and its number, so other ones come now.
        after_step: Called with `model` before the first and after every step: masks stay enforced.
        penalty: Function of `model` that is added to what is made smaller.
        seed: Decides all randomness but the order of the data, which is the datamodule's.
        trainer: Options of Lightning's Trainer.
        callbacks: Further callbacks of the Trainer.
        resume: Lightning checkpoint to go on from.
        **optimization: Fields of `Optimization` (`learning_rate`, `optimizer`, `scheduler`, ...);
            what is left out or None is the model's own.

    Raises:
        ConfigError: The data has other classes than the model, nothing can be trained, or an
            option does not exist.
    """
    student = model if isinstance(model, ClassifierModule) else WrappedModel(model)
    _require_fitting(student, data, teacher)
    attributes: dict[str, Any] = {"optimization": _changed(student, optimization)}
    if augmentation:
        generator = torch.Generator().manual_seed(seed)
        attributes["augmentation"] = Augmentation(**augmentation, generator=generator)
    if teacher is not None:
        attributes["objective"] = Distillation(
            teacher=teacher, temperature=temperature, weight=distillation_weight
        )
    if penalty is not None:
        attributes["penalty"] = partial(penalty, model)
    options = {**QUIET, **(trainer or {})}
    if epochs is not None:
        options["max_epochs"] = epochs
    if "val" not in getattr(data, "splits", ()):
        options["limit_val_batches"] = 0
    enforcing = [] if after_step is None else [AfterStep(model, after_step)]
    with ExitStack() as stack:
        for context in (
            own_random_stream(seed),
            torch_flags_kept(),
            advice_silenced(),
            _paired(data, student),
            _lent(student, attributes),
            _teaching(teacher),
        ):
            stack.enter_context(context)
        loop = pl.Trainer(
            **options, callbacks=[EpochSeeds(seed, first_epoch), *callbacks, *enforcing]
        )
        loop.fit(student, _loadable(data), ckpt_path=resume, weights_only=True)


def finetune(
    model: nn.Module,
    data: pl.LightningDataModule | Batches,
    settings: Mapping[str, Any],
    *,
    baseline: nn.Module,
    **options: Any,
) -> None:
    """Do what a `finetune` slot of a recipe says: `fit` with its settings.

    Args:
        model: The compressed model, trained in place.
        data: As in `fit`.
        settings: Arguments of `fit`, `name`, and `teacher`: `baseline` or None.
        baseline: What the model was before compression.
        **options: Further arguments of `fit`, such as `after_step`, `seed` and `trainer`.
    """
    arguments = {key: value for key, value in settings.items() if key != "name"}
    teacher = arguments.pop("teacher", None)
    if teacher not in (None, "baseline"):
        raise ConfigError([f"finetune.teacher is baseline or null, got {teacher!r}"])
    if settings.get("name") == "none":
        return
    fit(model, data, teacher=baseline if teacher else None, **arguments, **options)


class EpochSeeds(pl.Callback):
    """Starts all randomness of an epoch from the seed and the epoch's number.

    So an epoch is the same whether those before it ran in this process or in one that was killed.
    """

    def __init__(self, seed: int, first_epoch: int = 0) -> None:
        self.seed, self.first_epoch = seed, first_epoch

    def on_train_epoch_start(  # noqa: D102 - as in Lightning
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> None:
        sampler = getattr(trainer.train_dataloader, "sampler", None)
        owners = (sampler, trainer.train_dataloader, getattr(pl_module, "augmentation", None))
        generators = {id(g): g for g in (getattr(o, "generator", None) for o in owners) if g}
        seed = int(digest([self.seed, self.first_epoch + trainer.current_epoch])[:15], base=16)
        torch.manual_seed(seed)
        for number, generator in enumerate(generators.values(), start=1):
            generator.manual_seed(seed + number)


class AfterStep(pl.Callback):
    """Calls a function with the model before the first and after every optimizer step."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module], None]) -> None:
        self.model, self.function = model, function

    def on_train_start(self, *_: Any) -> None:
        """Before the first step, and after a resume."""
        self.function(self.model)

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """After the step of this batch, before the next forward pass or a validation."""
        self.function(self.model)


def _loadable(data: pl.LightningDataModule | Batches) -> Any:
    """Lightning takes a list for several loaders; here it is the batches of one."""
    if isinstance(data, list | tuple):
        return DataLoader(cast(Any, data), batch_size=None)
    return data


def _changed(student: ClassifierModule, changes: Mapping[str, Any]) -> Optimization:
    known = {field.name for field in fields(Optimization)}
    wrong = [unknown("training option", name, known) for name in changes if name not in known]
    if wrong:
        raise ConfigError(wrong)
    given = {name: value for name, value in changes.items() if value is not None}
    for kind in ("optimizer", "scheduler"):
        if kind in given:  # the model's own options belong to its own choice
            given.setdefault(f"{kind}_options", {})
    return replace(student.optimization, **given)


def _require_fitting(student: ClassifierModule, data: object, teacher: nn.Module | None) -> None:
    """Refuse pairs that would train something else than meant."""
    faults = []
    if getattr(data, "label_space", None) is not None:
        faults.append("labels of a label space of their own cannot be trained on")
    classes = getattr(data, "num_classes", student.num_classes)
    if classes != student.num_classes:
        faults.append(
            f"the model has {student.num_classes} classes and the data {classes}; "
            f"pass model.num_classes={classes}"
        )
    if teacher is student:
        faults.append("the teacher is the student itself; it needs a model of its own")
    elif isinstance(teacher, ClassifierModule):
        sizes = teacher.preprocessing.size, student.preprocessing.size
        if sizes[0] != sizes[1]:
            faults.append(f"the teacher looks at images of {sizes[0]}, the student of {sizes[1]}")
    if faults:
        raise ConfigError(faults)


@contextmanager
def _paired(data: object, student: ClassifierModule) -> Iterator[None]:
    """A datamodule of ours gives images as the student wants them."""
    if not hasattr(data, "preprocessing"):
        yield
        return
    before = data.preprocessing
    data.preprocessing = student.preprocessing
    try:
        yield
    finally:
        data.preprocessing = before


@contextmanager
def _lent(student: ClassifierModule, attributes: Mapping[str, Any]) -> Iterator[None]:
    """The student with these attributes; afterwards its own, and no trace of the loop."""
    device = student.device
    before = {name: getattr(student, name) for name in attributes}
    for name, value in attributes.items():
        setattr(student, name, value)
    try:
        student.train()
        yield
    finally:
        for name, value in before.items():
            setattr(student, name, value)
        student.teardown("fit")  # Lightning leaves it out after an error
        student.trainer = None
        student.zero_grad(set_to_none=True)
        student.to(device).eval()


@contextmanager
def _teaching(teacher: nn.Module | None) -> Iterator[None]:
    """The teacher in eval mode; afterwards its modes and its device are what they were."""
    if teacher is None:
        yield
        return
    device = next((tensor.device for tensor in teacher.parameters()), None)
    try:
        with evaluating(teacher):
            yield
    finally:
        teacher.to(device)
