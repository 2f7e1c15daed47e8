"""The classifier every other folder handles: images in, logits out."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from core.errors import ConfigError, NotApplicable, unknown
from core.preprocessing import Preprocessing
from models import fingerprint as fingerprints
from models.checkpoints import load_weights
from models.construction import Constructed
from models.heads import find_head
from models.optimization import Optimization
from models.trainable import Trainable

WIDTHS = ("in_features", "in_channels")
"""How linear layers and convolutions name the width of their input."""

COMPUTE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class ClassifierModule(Constructed, Trainable):
    """A network with its preprocessing, its origin and its way of being trained.

    A new model overrides `load_backbone`, and `default_preprocessing` where the network wants its
    images in a special form. What `load_backbone` reads from `self` is set before
    `super().__init__()`.

    Args:
        timm_name: Name in timm, where the backbone comes from there.
        learning_rate: Step size for training.
        optimizer: Any class of `torch.optim`, by name.
        checkpoint: File, URL or artifact folder that the weights come from.
        checkpoint_url: The same; one of the two.
        num_classes: Width of the logits; None takes that of the backbone.
        pretrained: Start from the weights the architecture is published with; None does so where
            no checkpoint is given.
        dtype: Precision of the arithmetic, `float32`, `bfloat16` or `float16` (autocast: weights
            stay as they are). Logits come out in float32.
        compile: Run the backbone as `torch.compile` makes it: the same weights, faster after a
            first pass that takes a minute. What it cannot compile as a whole is an error, never
            run eagerly without a word.
        weight_decay: L2 penalty.
        optimizer_options: Further arguments of the optimizer.
        scheduler: Any class of `torch.optim.lr_scheduler`, by name; empty for none.
        scheduler_options: Its arguments.
    """

    runtime: str = "torch"
    model_name: str = ""
    backbone: nn.Module
    num_classes: int
    achieved: Mapping[str, Any]
    """What is known about how an artifact was made; empty for a model that comes from none."""

    def __init__(
        self,
        timm_name: str = "",
        learning_rate: float = 1e-4,
        optimizer: str = "adam",
        checkpoint: str = "",
        checkpoint_url: str = "",
        *,
        num_classes: int | None = None,
        pretrained: bool | None = None,
        dtype: str = "float32",
        compile: bool = False,  # noqa: A002 - the name of the option
        weight_decay: float = 0.0,
        optimizer_options: Mapping[str, Any] | None = None,
        scheduler: str = "",
        scheduler_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            Optimization(
                optimizer=optimizer,
                learning_rate=learning_rate,
                weight_decay=weight_decay,
                optimizer_options=optimizer_options or {},
                scheduler=scheduler,
                scheduler_options=scheduler_options or {},
            )
        )
        if checkpoint and checkpoint_url:
            raise ConfigError(["pass model.checkpoint or model.checkpoint_url, not both"])
        if dtype not in COMPUTE_DTYPES:
            raise ConfigError([unknown("model.dtype", dtype, COMPUTE_DTYPES)])
        self.timm_name = timm_name
        self.compute_dtype = dtype
        self.compiled = compile
        self.baseline = None
        self.achieved = {}
        source = checkpoint or checkpoint_url
        self.pretrained = not source if pretrained is None else pretrained and not source
        self.requested_classes = num_classes
        self.backbone = self.load_backbone()
        self._name_head()
        self.preprocessing = self.default_preprocessing()
        if source:
            load_weights(self, source)

    # -- to override

    def load_backbone(self) -> nn.Module:
        """Build the network; weights of a checkpoint are loaded into it afterwards."""
        if not self.timm_name:
            raise ConfigError(
                [
                    f"{type(self).__name__} names no network: pass model.timm_name or "
                    "override load_backbone"
                ]
            )
        from models.timm_model import create_backbone

        return create_backbone(
            self.timm_name, pretrained=self.pretrained, num_classes=self.requested_classes
        )

    def default_preprocessing(self) -> Preprocessing:
        """How the backbone wants its images; timm's data for a timm network, else unchanged."""
        if hasattr(self.backbone, "pretrained_cfg"):
            from models.timm_model import preprocessing_of

            return preprocessing_of(self.backbone)
        first = next((m for m in self.backbone.modules() if isinstance(m, nn.Conv2d)), None)
        channels = 1 if first is not None and first.in_channels == 1 else 3
        return Preprocessing(mean=(0.0,) * channels, std=(1.0,) * channels)

    # -- the function of images

    def forward(self, images: Tensor) -> Tensor:
        """Logits.

        Args:
            images: Shape [B, 3, H, W] or [B, 1, H, W], in [0, 1].

        Returns:
            Float32, shape [B, C].
        """
        images = self.normalise(images)
        self._keep_compiled()
        with self._precision(images.device):
            logits = self.backbone(images)
        return cast(Tensor, logits.float())

    def forward_features(self, images: Tensor) -> Tensor:
        """What the classifier head sees, float32, shape [B, embedding_dim]."""
        return self.logits_and_features(images)[1]

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, C] and features [B, embedding_dim] of one pass, both float32.

        Raises:
            NotApplicable: The network shows no features; a compiled one ignores who listens.
        """
        if self.compiled:
            raise NotApplicable(
                "a compiled model gives logits, not features; they are those of model.compile=false"
            )
        seen: list[Tensor] = []
        hook = self.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = self(images)
        finally:
            hook.remove()
        features = seen[0].flatten(1) if seen[0].shape[2:].numel() == 1 else seen[0]
        if features.ndim != 2:
            raise NotApplicable(
                f"the head of {type(self.backbone).__name__} sees {list(seen[0].shape)}, not one "
                "vector an image; override forward_features"
            )
        return logits, features.float()

    def normalise(self, images: Tensor) -> Tensor:
        """Images as the backbone wants them: its channels, its mean and its scale."""
        if images.ndim != 4 or not images.is_floating_point():
            raise ValueError(
                "expected float images [B, K, H, W] in [0, 1], "
                f"got {images.dtype} {list(images.shape)}"
            )
        channels = self.preprocessing.channels
        if images.shape[1] not in (1, channels):
            raise ValueError(
                f"this model takes images of {channels} channel{'s' * (channels > 1)}, got "
                f"{images.shape[1]} ({list(images.shape)}); choose a model or a dataset that fits"
            )
        mean, std = cast(Tensor, self._mean), cast(Tensor, self._std)
        return (images.to(mean.dtype).expand(-1, channels, -1, -1) - mean) / std

    @property
    def preprocessing(self) -> Preprocessing:
        """How this model wants its images; `forward` normalises, datamodules do the rest."""
        return self._preprocessing

    @preprocessing.setter
    def preprocessing(self, value: Preprocessing) -> None:
        self._preprocessing = value
        shape = (value.channels, 1, 1)
        for name, numbers in (("_mean", value.mean), ("_std", value.std)):
            tensor = torch.tensor(numbers, device=self.device).view(shape)
            self.register_buffer(name, tensor, persistent=False)

    # -- what is known about it

    @property
    def head(self) -> nn.Module:
        """The module that makes logits of features."""
        if not self.head_name:
            raise NotApplicable(
                f"{type(self.backbone).__name__} has no classifier head that can be found; "
                "override forward_features"
            )
        return self.get_submodule(self.head_name)

    @property
    def embedding_dim(self) -> int:
        """Length of the vector the classifier head sees."""
        parts = [vars(part) for part in self.head.modules()]
        widths = [part[name] for name in WIDTHS for part in parts if name in part]
        if not widths:
            raise NotApplicable(f"the head {self.head_name} does not say how wide its input is")
        return int(widths[0])

    @property
    def baseline(self) -> "ClassifierModule | None":
        """The model this one was made from; no part of this module, shared by its copies."""
        return cast("ClassifierModule | None", self._baseline.model)

    @baseline.setter
    def baseline(self, model: "ClassifierModule | None") -> None:
        self._baseline = _Reference(model)

    def __setattr__(self, name: str, value: Any) -> None:
        """Keep torch from making the baseline a submodule."""
        if name == "baseline":
            object.__setattr__(self, name, value)
            return
        super().__setattr__(name, value)

    @property
    def files(self) -> dict[str, Path]:
        """Constructor argument -> file without which this model cannot be built again."""
        return {}

    @property
    def counts(self) -> Mapping[str, int] | None:
        """What torch cannot count in a model of another runtime; None where it can.

        `params`, `nonzero_params` and `macs` of the network it was made of.
        """
        return None

    def fingerprint(self) -> str:
        """Digest of what this model computes; equal for a renamed checkpoint."""
        return fingerprints.fingerprint(self)

    def numerics(self) -> dict[str, Any]:
        """What decides the last digits of its logits beside weights and input; JSON."""
        device = cast(Tensor, self._mean).device.type
        outer = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        on_gpu = device == "cuda"
        return {
            "dtype": self.compute_dtype,
            "device": device,
            "runtime": "torch.compile" if self.compiled else self.runtime,
            "matmul_precision": torch.get_float32_matmul_precision(),
            "tf32_matmul": on_gpu and torch.backends.cuda.matmul.fp32_precision == "tf32",
            "tf32_conv": on_gpu and _conv_precision() == "tf32",
            "autocast": None if outer is None else str(outer).removeprefix("torch."),
        }

    def _keep_compiled(self) -> None:
        """Compile the backbone where that was asked for; copies and new backbones come without."""
        if not self.compiled or torch.compiler.is_compiling():  # also true while it is exported
            return
        if self.backbone._compiled_call_impl is None:
            self.backbone.compile(fullgraph=True)

    def _precision(self, device: torch.device) -> AbstractContextManager[Any]:
        if self.compute_dtype == "float32":  # leaves an autocast of the caller alone
            return nullcontext()
        return torch.autocast(device.type, dtype=COMPUTE_DTYPES[self.compute_dtype])

    def _name_head(self) -> None:
        """Find the head by name once, so that it is still known after an edit replaced it."""
        name, width = find_head(self.backbone)
        self.head_name = f"backbone.{name}" if name else ""
        asked = self.requested_classes
        if width is None and asked is None:
            raise ConfigError(
                [f"how many logits {type(self.backbone).__name__} has is unknown: pass num_classes"]
            )
        if width is not None and asked not in (None, width):
            raise ConfigError([f"model.num_classes={asked}, but the network has {width} logits"])
        self.num_classes = int(cast(int, asked or width))


def _conv_precision() -> str:
    return str(torch.backends.cudnn.conv.fp32_precision)  # type: ignore[attr-defined]


class _Reference:
    """A holder that torch does not look into and that a deep copy shares."""

    def __init__(self, model: ClassifierModule | None) -> None:
        self.model = model

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Reference":
        return self
