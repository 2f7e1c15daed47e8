"""Does the compressed model look at the same pixels as its baseline?"""

from collections.abc import Sequence

import torch
from omegaconf import DictConfig
from torch import Tensor

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import metric_key
from measurements.functional.saliency import saliency_cosine, saliency_maps, top_overlap
from measurements.measurement import PairedMeasurement, ends, mean_interval
from models.base_model import ClassifierModule
from recording.loop import evaluating


class SaliencyAgreement(PairedMeasurement):
    """Likeness of the input gradients of a model and its baseline, image by image.

    The gradient is that of the logit of the label, its map the largest size over the channels.
    Maps are compared by their cosine and by the overlap of their most salient pixels. Images whose
    gradient is zero or not finite for either model are left out; their share is said.

    Args:
        samples: Images both models are run on.
        share: Part of the pixels that are the most salient.

    Reference:
        Simonyan et al., Deep inside convolutional networks (2014); Adebayo et al., Sanity checks
        for saliency maps (2018), on comparing them.
    """

    needs = frozenset({"images", "gradients"})
    unit, better, version = "", "higher", 1

    def __init__(
        self,
        datamodule_names: Sequence[str],
        model: ClassifierModule,
        experiment_config: DictConfig,
        *,
        samples: int = 128,
        share: float = 0.1,
    ) -> None:
        super().__init__(datamodule_names, model, experiment_config)
        if not 0 < share <= 1:
            raise ValueError(f"share is a part of the pixels, in (0, 1], got {share}")
        self.samples, self.share = samples, share

    def measure(self) -> dict[str, Estimate]:
        """`saliency_cosine`, `saliency_overlap` and `saliency_left_out` of every dataset."""
        if self.baseline.runtime != "torch":
            raise NotApplicable(f"a baseline run by {self.baseline.runtime} has no gradients")
        if self.model.preprocessing.size != self.baseline.preprocessing.size:
            raise NotApplicable("the two models look at images of different sizes")
        return {
            metric_key(name, self.split, measured): value
            for name in self.datamodule_names
            for measured, value in self._found(name).items()
        }

    def _found(self, name: str) -> dict[str, Estimate]:
        now, before = (self._maps(model, name) for model in (self.model, self.baseline))
        usable = torch.stack([m.isfinite().all(1) & m.gt(0).any(1) for m in (now, before)]).all(0)
        if not usable.any():
            raise NotApplicable(f"no image of {name} has a gradient in both models")
        now, before = now[usable], before[usable]
        values = {
            "saliency_cosine": saliency_cosine(now, before),
            "saliency_overlap": top_overlap(now, before, share=self.share),
        }
        found = {
            measured: self.value(each.mean().item(), n=len(each), **ends(mean_interval(each)))
            for measured, each in values.items()
        }
        left_out = (~usable).double().mean().item()
        found["saliency_left_out"] = self.value(
            left_out, n=len(usable), unit="fraction", better="lower"
        )
        return found

    def _maps(self, model: ClassifierModule, name: str) -> Tensor:
        """Saliency of the chosen images, [N, P] on the CPU."""
        space = self.recorder.datamodule(name, model).label_space
        maps = []
        with evaluating(model), torch.inference_mode(False), torch.enable_grad():
            for batch in self.recorder.images(model, name, self.split, samples=self.samples):
                images = batch.images.clone().requires_grad_()
                logits = model(images)
                answers = logits if space is None else space.restrict(logits)
                score = answers.gather(1, batch.labels.unsqueeze(1)).sum()
                if not score.requires_grad:
                    raise NotApplicable("the answer of a model has no gradient")
                maps.append(saliency_maps(torch.autograd.grad(score, images)[0]).cpu())
        return torch.cat(maps)
