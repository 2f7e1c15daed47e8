"""OpenVINO with the same weights."""

from compressors.base import Decision, Task
from compressors.deployment import SAME_WEIGHTS, Deployment, classifier_of, deployed
from models.openvino_runtime import export_openvino


class OpenVino(Deployment):
    """Hands the whole model to OpenVINO; the files are verified against the model.

    Args:
        name: Of the recipe.
    """

    runtime = "openvino"

    def __init__(self, *, name: str = "") -> None:
        super().__init__(name=name)

    def decide(self, task: Task) -> Decision:
        """Export, and open what was exported."""
        model = classifier_of(task)
        made = deployed(
            self.runtime, model, task.example_inputs, lambda path: export_openvino(model, path)
        )
        return Decision(model=made, notes=[SAME_WEIGHTS.format(runtime="OpenVINO")])
