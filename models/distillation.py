"""Learning from another model's outputs (Hinton, Vinyals and Dean, 2015)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import ConfigError


def distillation_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Divergence of the softened outputs, scaled so that its gradients do not depend on T.

    Args:
        student: Logits, shape [B, C].
        teacher: Logits, shape [B, C].
        temperature: T; both are divided by it.

    Returns:
        T^2 KL(teacher || student) in nats, mean over the batch; at least 0.

    Example:
        >>> teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> round(distillation_loss(student, teacher, temperature=2.0).item(), 4)
        0.4438
    """
    if student.shape != teacher.shape:
        raise ConfigError(
            [
                "teacher and student need logits of one width, "
                f"got {list(teacher.shape)} and {list(student.shape)}"
            ]
        )
    divergence = F.kl_div(
        F.log_softmax(student / temperature, dim=1),
        F.log_softmax(teacher / temperature, dim=1),
        log_target=True,
        reduction="batchmean",
    )
    return divergence * temperature**2


@dataclass(frozen=True, kw_only=True)
class Distillation:
    """Objective of a student: cross-entropy with the labels and divergence from the teacher.

    Args:
        teacher: In eval mode and on the student's device while it is used.
        temperature: Above 0; larger values show more of the teacher's doubts.
        weight: Of the divergence; the cross-entropy has 1.
    """

    teacher: nn.Module
    temperature: float = 4.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ConfigError([f"temperature is above 0, got {self.temperature}"])

    def __call__(self, logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """Scalar loss of a batch."""
        self.teacher.to(images.device)
        with torch.no_grad():
            taught = self.teacher(images)
        divergence = distillation_loss(logits, taught, temperature=self.temperature)
        return F.cross_entropy(logits, labels) + self.weight * divergence
