"""A pass of several processes, of which the second is killed in its first batch: run by srun."""

import os
import signal
import sys
import time
from pathlib import Path

from torch import Tensor, nn

from core.preprocessing import Preprocessing
from models.base_model import ClassifierModule
from recording.ranks import leading
from recording.recorder import Recorder, RecordingOptions

DUMMY = {
    "_target_": "datamodules.dummy.Dummy",
    "num_classes": 4,
    "size": [6, 6],
    "channels": 1,
    "samples": 11,
}


class Deadly(ClassifierModule):
    """Leaves the time of its death."""

    model_name = "deadly"

    def load_backbone(self) -> nn.Module:
        """Anything."""
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 4))

    def default_preprocessing(self) -> Preprocessing:
        """Small and grey."""
        return Preprocessing(size=(6, 6))

    def forward(self, images: Tensor) -> Tensor:
        """Kill the process that is the second of its step."""
        if os.environ["SLURM_PROCID"] == "1":
            Path(sys.argv[1], "died").write_text(str(time.time()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)


if __name__ == "__main__":
    trainer = {"accelerator": "cpu", "devices": 1, "num_nodes": 2}
    options = RecordingOptions(root=Path(sys.argv[1]), batch_size=4, threads=1, trainer=trainer)
    with leading() as leads:
        if leads:
            Recorder(options, {"dummy": DUMMY}).records(Deadly(), "dummy")
