"""Attacks against models whose worst case is known, and what holds for any model."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from core.errors import NotApplicable
from recording.attacks.attack import Attack
from recording.attacks.balls import L2
from recording.attacks.grammar import attack
from recording.attacks.objective import Classify, margins, objective, uphill
from recording.attacks.square import side_of

EVERY_KIND = ["fgsm_16", "pgd_16", "pgdl2_50", "square_16_q60"]

IDS = torch.arange(64)


def made(name: str) -> Attack:
    found = attack(name)
    assert found is not None
    return found


def noise(samples: int = 64, *, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(samples, 2, 3, 4, generator=generator) * (high - low) + low


def linear(classes: int = 2) -> tuple[Classify, Tensor]:
    """A linear model, and its weights [24, C]; about as many of each class."""
    weights = torch.randn(24, classes, generator=torch.Generator().manual_seed(1))
    weights -= weights.mean(dim=0)
    return lambda images: (images - 0.5).flatten(1) @ weights, weights


def curved(classes: int = 4) -> nn.Module:
    torch.manual_seed(2)
    parts = (nn.Conv2d(2, 8, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(96, classes))
    return nn.Sequential(*parts).requires_grad_(False)


def labels_of(classify: Classify, images: Tensor) -> Tensor:
    return classify(images).argmax(dim=1)


@pytest.mark.parametrize(
    ("name", "dual"), [("fgsm_16", 1), ("pgd_16", 1), ("pgdl2_15", 2)], ids=str
)
def test_a_linear_model_of_two_classes_breaks_exactly_where_it_must(name: str, dual: int) -> None:
    classify, weights = linear()
    images = noise(low=0.2, high=0.8)  # no change reaches 0 or 1
    labels = labels_of(classify, images)
    labels[:8] = 1 - labels[:8]  # some are wrong from the start
    one = made(name)
    steepness = (weights[:, 0] - weights[:, 1]).norm(p=dual)
    left = margins(classify(images), labels) - one.eps * steepness
    found = margins(classify(one(classify, images, labels, IDS).images), labels)
    assert 8 < (left < 0).sum() < 56
    assert torch.equal(found < 0, left < 0)
    if name == "fgsm_16":
        torch.testing.assert_close(found, left, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["fgsm_0", "pgd_0", "pgdl2_0", "square_0_q5"])
def test_no_distance_is_the_clean_image_to_the_bit(name: str) -> None:
    images = noise()
    classify = curved()
    seen = made(name)(classify, images, labels_of(classify, images), IDS).images
    assert torch.equal(seen, images)


@pytest.mark.parametrize("name", EVERY_KIND)
def test_it_stays_in_the_ball_and_among_images(name: str) -> None:
    images, one = noise(8).round(decimals=1), made(name)  # many pixels are near 0 or 1
    classify = curved()
    labels = labels_of(classify, images)
    change = one(classify, images, labels, IDS[:8]).images - images
    seen = images + change
    sizes = change.flatten(1).norm(p=2 if one.norm == "l2" else torch.inf, dim=1)
    assert sizes.max() <= one.eps + 1e-6
    assert sizes.max() > 0.9 * one.eps
    assert seen.min() >= 0
    assert seen.max() <= 1


@pytest.mark.parametrize("name", EVERY_KIND)
def test_an_image_does_not_depend_on_the_others_nor_on_who_else_draws(name: str) -> None:
    images, (classify, _) = noise(), linear(3)
    labels = labels_of(classify, images)
    state = torch.get_rng_state()
    whole = made(name)(classify, images, labels, IDS).images
    chosen = torch.tensor([5, 40, 2])
    few = made(name)(classify, images[chosen], labels[chosen], IDS[chosen]).images
    close = (few - whole[chosen]).abs().flatten(1).amax(dim=1)
    assert close.max() < 1e-5
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", EVERY_KIND)
def test_it_works_within_inference_mode_and_leaves_no_gradient(name: str) -> None:
    model = curved().requires_grad_(True)
    with torch.inference_mode():
        images = noise()
        labels = labels_of(model, images)
        seen = made(name)(model, images, labels, IDS).images
        wrong = (labels_of(model, seen) != labels).sum()
    assert wrong > 3
    assert not seen.requires_grad
    assert all(one.grad is None for one in model.parameters())


def test_many_steps_are_stronger_than_one_and_more_starts_than_one() -> None:
    classify, images = curved(), noise()
    labels = labels_of(classify, images)
    left = {
        name: margins(classify(made(name)(classify, images, labels, IDS).images), labels)
        for name in ("fgsm_16", "pgd_16_k1", "pgd_16", "pgd_16_r3")
    }
    assert left["pgd_16"].mean() < left["fgsm_16"].mean()
    assert left["pgd_16"].mean() < left["pgd_16_k1"].mean()
    assert (left["pgd_16_r3"] <= left["pgd_16"]).all()
    assert (left["pgd_16_r3"] < left["pgd_16"]).any()


@pytest.mark.parametrize(("name", "norm"), [("pgd_16_k10", torch.inf), ("pgdl2_50_k10", 2)])
def test_all_steps_together_are_two_and_a_half_distances_long(name: str, norm: float) -> None:
    classify, _ = linear()
    images = noise(4, low=0.3, high=0.7)
    asked = []

    def watched(seen: Tensor) -> Tensor:
        asked.append(seen.detach())
        return classify(seen)

    one = made(name)
    one(watched, images, labels_of(classify, images), IDS[:4])
    clean, *places = asked
    steps = [(after - before).flatten(1).norm(p=norm, dim=1) for before, after in pairwise(places)]
    assert torch.equal(clean, images)
    assert len(steps) == 10
    longest = torch.stack(steps).max().item()  # the edge of the ball shortens others
    assert longest == pytest.approx(2.5 * one.eps / 10, abs=1e-6)


@pytest.mark.parametrize("name", ["fgsm_16", "pgd_16"])
def test_a_gradient_that_is_0_in_some_pixels_is_seen(name: str) -> None:
    classify, _ = linear()
    half = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    images = noise()
    found = made(name)(lambda seen: classify(seen * half), images, labels_of(classify, images), IDS)
    assert not found.columns["zero_gradient"].any()


def rounded(images: Tensor) -> Tensor:
    """Logits of a model that rounds what it sees to fifths: its gradients are 0."""
    classify, _ = linear()
    return classify((images * 5).round() / 5)


def test_rounding_hides_the_gradient_but_not_from_an_attack_that_only_asks() -> None:
    images = noise()
    labels = labels_of(rounded, images)
    fgsm, pgd = (made(name)(rounded, images, labels, IDS) for name in ("fgsm_40", "pgd_40"))
    assert fgsm.columns["zero_gradient"].all()
    assert pgd.columns["zero_gradient"].all()
    assert torch.equal(fgsm.images, images)
    square = made("square_40_q60")(rounded, images, labels, IDS)
    assert square.columns == {}
    wrong = {
        "pgd": (labels_of(rounded, pgd.images) != labels).sum(),  # its random start is a guess
        "square": (labels_of(rounded, square.images) != labels).sum(),
    }
    assert wrong["square"] > wrong["pgd"] + 10


def test_a_model_of_which_part_rounds_hides_the_gradient_of_some() -> None:
    images, (classify, _) = noise(), linear()
    labels = labels_of(classify, images)
    half = torch.arange(64) < 32

    def partly(seen: Tensor) -> Tensor:
        return torch.where(half[:, None], classify(seen), classify(seen.round()))

    for name in ("fgsm_16", "pgd_16"):
        assert torch.equal(made(name)(partly, images, labels, IDS).columns["zero_gradient"], ~half)


def test_squares_move_whole_squares_by_all_that_is_allowed() -> None:
    images, (classify, _) = noise(low=0.3, high=0.7), linear()
    labels = labels_of(classify, images)
    one = made("square_4_q40")
    seen = one(classify, images, labels, IDS).images
    size = (seen - images).abs() / one.eps
    torch.testing.assert_close(size, size.round(), rtol=0, atol=1e-4)
    left = [
        margins(classify(made(f"square_4_q{q}")(classify, images, labels, IDS).images), labels)
        for q in (1, 40)
    ]
    assert (left[1] < left[0]).float().mean() > 0.5


def test_a_square_is_put_on_the_best_image_so_far() -> None:
    images, (classify, _) = noise(low=0.3, high=0.7), linear()
    labels = labels_of(classify, images)
    striped, seen = (
        made(f"square_4_q{queries}")(classify, images, labels, IDS).images - images
        for queries in (1, 40)
    )
    taken = striped.flatten(1).any(dim=1)
    assert taken.sum() > 10
    expected = torch.full_like(seen[taken], 4 / 255)  # the stripes are on every pixel, and stay
    torch.testing.assert_close(seen[taken].abs(), expected, rtol=0, atol=1e-6)


def test_a_sample_that_is_wrong_already_is_left_as_it_is() -> None:
    images, (classify, _) = noise(), linear()
    labels = 1 - labels_of(classify, images)
    assert torch.equal(made("square_16_q5")(classify, images, labels, IDS).images, images)


def test_the_sides_of_squares_follow_the_published_schedule() -> None:
    shape = torch.Size([1, 3, 224, 224])
    queries = (1, 10, 11, 50, 51, 200, 201, 1000, 2001, 9999)
    shares = (2**0, 2**0, 2, 2, 4, 4, 8, 16, 64, 512)
    expected = [round((0.8 / share) ** 0.5 * 224) for share in shares]
    assert [side_of(query, 10_000, shape) for query in queries] == expected
    assert side_of(1, 10_000, torch.Size([1, 1, 2, 50])) == 2


def test_a_broken_row_is_a_success_of_the_attack_and_breaks_no_other() -> None:
    logits = torch.tensor([[torch.nan, 0.0], [torch.inf, 0.0], [2.0, 0.5]])
    assert margins(logits, torch.tensor([0, 0, 0])).tolist() == [-torch.inf, -torch.inf, 1.5]
    classify, _ = linear(3)

    def sometimes(images: Tensor) -> Tensor:
        return classify(images) / (images[:, :1, 0, 0] > 0.5)  # 0 / 0 or x / 0

    images = noise()
    images[0, 0, 0, 0], images[1, 0, 0, 0] = 0.9, 0.1
    seen = made("pgd_4")(sometimes, images, labels_of(classify, images), IDS).images
    assert seen.isfinite().all()
    assert not torch.equal(seen[0], images[0])


def test_the_ratio_does_not_change_with_the_scale_and_constant_logits_have_one() -> None:
    logits = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(9) % 5
    torch.testing.assert_close(objective(20 * logits, labels), objective(logits, labels))
    assert objective(torch.zeros(1, 3), torch.tensor([1])).tolist() == [0.0]


def test_what_torch_does_not_run_cannot_be_differentiated() -> None:
    def foreign(images: Tensor) -> Tensor:
        return torch.from_numpy(images.detach().numpy().sum(axis=(2, 3)))

    with pytest.raises(NotApplicable, match="cannot be differentiated"):
        uphill(foreign, noise(), torch.zeros(64, dtype=torch.int64))
    seen = made("square_16_q5")(foreign, noise(), torch.zeros(64, dtype=torch.int64), IDS)
    assert seen.images.shape == (64, 2, 3, 4)


def test_a_round_ball_is_filled_evenly_and_tiny_gradients_have_a_direction() -> None:
    from datamodules.views.seeding import Draws

    draws = Draws.of(torch.arange(4000), "pgdl2")
    starts = L2().start(torch.Size([4000, 1, 1, 2]), draws, "start 0")
    lengths = starts.flatten(1).norm(dim=1)
    assert lengths.max() <= 1 + 1e-6
    assert (lengths < 0.5**0.5).float().mean() == pytest.approx(0.5, abs=0.03)  # half the area
    assert starts.mean(dim=0).abs().max() < 0.03
    steep = L2().direction(torch.tensor([3e-38, 4e-38, 0, 0]).view(2, 1, 1, 2))
    torch.testing.assert_close(steep.flatten(), torch.tensor([0.6, 0.8, 0, 0]))
