"""Where a number came from: code, versions, machine."""

import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from core.origin import git_state

PACKAGES = (
    *("torch", "torchvision", "timm", "pytorch-lightning", "torch-pruning"),
    *("onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "torchao"),
)


def provenance() -> dict[str, Any]:
    """Git state, versions and hardware of this process; JSON."""
    return {
        **git_state(),
        "python": platform.python_version(),
        "versions": versions(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def versions() -> dict[str, str]:
    """Of the packages that compute or make models, as far as they are installed."""
    return {name: found for name in PACKAGES if (found := _version(name))}


def machine_identity() -> dict[str, Any]:
    """What a measured time belongs to; JSON."""
    everything = provenance()
    return {key: everything[key] for key in ("cpu", "gpus", "threads", "cpu_capability")} | {
        "torch": torch.__version__
    }


def now() -> str:
    """This moment in UTC, ISO 8601."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def cpu_name() -> str:
    """Model name of the processor, as the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
