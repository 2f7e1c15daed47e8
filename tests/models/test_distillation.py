import math

import pytest
import torch
from scipy.special import rel_entr, softmax
from torch import nn

from core.errors import ConfigError
from models.distillation import Distillation, distillation_loss


def test_equal_outputs_have_no_divergence() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    assert distillation_loss(logits, logits + 5, temperature=2.0).item() == pytest.approx(0)


def test_the_divergence_is_that_of_the_softened_outputs_times_t_squared() -> None:
    # At T = 2 the teacher says (3/4, 1/4), the student (1/2, 1/2):
    # 4 (3/4 log(3/2) + 1/4 log(1/2)) = 0.5232
    teacher, student = torch.tensor([[2 * math.log(3), 0.0]]), torch.zeros(1, 2)
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    loss = distillation_loss(student, teacher, temperature=2.0)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    assert expected == pytest.approx(0.5232, abs=1e-4)


def test_it_agrees_with_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(6, 5, generator=generator) for _ in range(2))
    p, q = (softmax(z.double().numpy() / 3, axis=1) for z in (teacher, student))
    expected = 9 * rel_entr(p, q).sum(1).mean()
    assert distillation_loss(student, teacher, temperature=3.0).item() == pytest.approx(expected)


def test_widths_have_to_agree() -> None:
    with pytest.raises(ConfigError, match=r"one width, got \[1, 3\] and \[1, 2\]"):
        distillation_loss(torch.ones(1, 2), torch.ones(1, 3), temperature=1.0)


def test_the_objective_is_cross_entropy_and_the_weighted_divergence() -> None:
    teacher = nn.Linear(1, 2)
    images, labels, logits = torch.ones(3, 1), torch.tensor([0, 1, 1]), torch.zeros(3, 2)
    teacher.weight.data, teacher.bias.data = torch.tensor([[math.log(3)], [0.0]]), torch.zeros(2)
    objective = Distillation(teacher=teacher, temperature=1.0, weight=0.5)
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    loss = objective(logits, images, labels)
    assert loss.item() == pytest.approx(math.log(2) + 0.5 * divergence, abs=1e-6)


def test_the_teacher_gets_no_gradient() -> None:
    teacher, logits = nn.Linear(1, 2), torch.zeros(3, 2, requires_grad=True)
    Distillation(teacher=teacher)(logits, torch.ones(3, 1), torch.tensor([0, 1, 1])).backward()
    assert logits.grad is not None
    assert teacher.weight.grad is None


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="temperature is above 0, got 0"):
        Distillation(teacher=nn.Linear(1, 2), temperature=0.0)
