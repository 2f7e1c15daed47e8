"""ONNX Runtime with the same weights."""

from compressors.base import Decision, Task
from compressors.deployment import SAME_WEIGHTS, Deployment, classifier_of, deployed
from models.onnx_runtime import export_onnx


class Ort(Deployment):
    """Hands the whole model to ONNX Runtime; the file is verified against the model.

    Args:
        name: Of the recipe.
    """

    runtime = "onnxruntime"

    def __init__(self, *, name: str = "") -> None:
        super().__init__(name=name)

    def decide(self, task: Task) -> Decision:
        """Export, and open what was exported."""
        model = classifier_of(task)
        made = deployed(
            self.runtime, model, task.example_inputs, lambda path: export_onnx(model, path)
        )
        return Decision(model=made, notes=[SAME_WEIGHTS.format(runtime="ONNX Runtime")])
