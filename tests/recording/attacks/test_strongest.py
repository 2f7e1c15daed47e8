"""What a search keeps of all it has tried."""

import torch

from recording.attacks.strongest import Strongest


def test_each_sample_keeps_its_lowest_margin_and_the_first_of_equals() -> None:
    images = [torch.full((3, 1, 1, 1), value) for value in (0.0, 0.1, 0.2)]
    found = Strongest(images[0], torch.tensor([1.0, 1.0, 1.0]))
    found.offer(images[1], torch.tensor([0.5, 1.0, 2.0]))
    found.offer(images[2], torch.tensor([0.75, 1.0, -1.0]))
    torch.testing.assert_close(found.images.flatten(), torch.tensor([0.1, 0.0, 0.2]))
    assert found.margins.tolist() == [0.5, 1.0, -1.0]
    assert not found.are_all_wrong


def test_a_margin_of_0_is_not_wrong() -> None:
    images = torch.zeros(2, 1, 1, 1)
    assert not Strongest(images, torch.tensor([-1.0, 0.0])).are_all_wrong
    assert Strongest(images, torch.tensor([-1.0, -0.5])).are_all_wrong
