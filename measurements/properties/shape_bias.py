"""Does the model go by shape or by texture?"""

import torch

from core.errors import NotApplicable
from core.estimate import Estimate
from core.names import MODEL, metric_key
from datamodules.cue_conflict import CueConflict, members
from datamodules.label_space import IMAGENET_CLASSES
from measurements.functional.intervals import wilson_interval
from measurements.functional.shape_bias import ShapeBias, coarse_decisions, shape_bias
from measurements.measurement import Measurement, Request, ends


class ShapeBiasEvaluation(Measurement):
    """Decisions for the shape among those for the shape or the texture of cue-conflict images.

    For models of the thousand ImageNet classes: each of the 16 classes has the mean probability of
    the ImageNet classes it is made of. Images whose shape and texture agree are left out. Neither
    end of the scale is better; humans are near 0.96.

    Reference:
        Geirhos et al., ImageNet-trained CNNs are biased towards texture (2019).
    """

    kind = "property"
    needs = frozenset({"records", "logits"})
    unit, better, version = "fraction", "", 1

    @property
    def obstacle(self) -> str:
        """Why there is nothing to decide; empty where there is."""
        if not self.conflicts():
            return "shape and texture are known of cue_conflict alone; name it in datamodule_names"
        if self.model.num_classes != IMAGENET_CLASSES:
            return (
                f"the 16 classes are made of {IMAGENET_CLASSES} ImageNet classes, the model has "
                f"{self.model.num_classes}"
            )
        return ""

    def conflicts(self) -> dict[str, CueConflict]:
        """Datasets with two cues."""
        return {
            name: datamodule
            for name, datamodule in self.datamodules.items()
            if isinstance(datamodule, CueConflict)
        }

    def requests(self) -> list[Request]:
        """All thousand logits; nothing where there is nothing to decide."""
        if self.obstacle:
            return []
        return [
            Request(datamodule=name, split=self.split, parts=self.parts, classes_of=MODEL)
            for name in self.conflicts()
        ]

    def measure(self) -> dict[str, Estimate]:
        """`shape_bias`, and the shares of the images decided for the shape and for the texture."""
        if self.obstacle:
            raise NotApplicable(self.obstacle)
        results: dict[str, Estimate] = {}
        for name, datamodule in self.conflicts().items():
            records = self.records(name, classes_of=MODEL)
            decisions = coarse_decisions(records.logits, members())
            groups, names = datamodule.groups(self.split), datamodule.classes
            shape, texture = (
                torch.tensor([names.index(one) for one in groups[column]])[records.sample_id]
                for column in ("shape", "texture")
            )
            found = shape_bias(decisions, shape=shape, texture=texture)
            for measured, value in self._values(found).items():
                results[metric_key(name, self.split, measured)] = value
        return results

    def _values(self, found: ShapeBias) -> dict[str, Estimate]:
        images = found.shape + found.texture + found.neither
        decided = found.shape + found.texture
        shares = {"shape_decisions": found.shape, "texture_decisions": found.texture}
        return {
            "shape_bias": self.value(found.bias, n=decided, **ends(found.interval)),
            **{
                name: self.value(count / images, n=images, **ends(wilson_interval(count, images)))
                for name, count in shares.items()
            },
        }
