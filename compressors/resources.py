"""What some compressors need beside a model: data, a score, training."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

Need = Literal["batches", "score", "train", "seed"]


class Train(Protocol):
    """Trains a model in place on the tuning part of the data."""

    def __call__(self, model: nn.Module, *, epochs: int, **options: object) -> None:
        """Train; the options are those of `models.training.fit`, such as `after_step`.

        Every call goes through the data in the same order, so that candidates are compared alike;
        who trains one model further says `first_epoch`.
        """


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a compressor may use; whoever calls it decides which data that is.

    Args:
        batches: Function n -> batches of the first n samples of the tuning part, in a fixed random
            order: images [B, K, H, W] in [0, 1] and labels [B], on the model's device.
        score: Function model -> accuracy in [0, 1] on the score part, of which `batches` and
            `train` have no sample.
        train: Trains a model in place on the tuning part.
        seed: Of everything random.
        tuning_samples: Function -> how many samples an epoch of `train` has, where that is known.
        said: What is worth telling about the data, as sentences: on what the score was taken.
    """

    batches: Callable[[int], Iterable[tuple[Tensor, Tensor]]]
    score: Callable[[nn.Module], float]
    train: Train
    seed: int = 0
    tuning_samples: Callable[[], int] | None = None
    said: tuple[str, ...] = ()
