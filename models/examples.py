"""Images to run a model with where their content does not matter."""

import torch
from torch import Tensor

from core.errors import IncompatibleModel
from models.base_model import ClassifierModule


def example_images(model: ClassifierModule, count: int = 1) -> Tensor:
    """Seeded noise in the size the model wants, [count, K, H, W] in [0, 1], on its device.

    Raises:
        IncompatibleModel: The model does not say which size it wants.
    """
    wanted = model.preprocessing
    if wanted.size is None:
        raise IncompatibleModel(
            f"{type(model).__name__} has no input size: set preprocessing.size in its class"
        )
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((count, wanted.channels, *wanted.size), generator=generator)
    return images.to(model.device)
