"""Measured memory: what a call needs beyond what is held before it."""

import ctypes
import gc
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from core.errors import NotApplicable

PROCESS = Path("/proc/self")


@dataclass(frozen=True, kw_only=True)
class PeakMemory:
    """Memory around one call in steady state, in bytes."""

    working_bytes: int  # the most the call held beyond what was held before it
    held_bytes: int  # before the call: weights on a GPU; on a CPU the whole process
    method: Literal["cuda_allocator", "resident_set"]

    @property
    def peak_bytes(self) -> int:
        """The most that was held at any time of the call."""
        return self.held_bytes + self.working_bytes


def peak_memory(call: Callable[[], object], *, device: torch.device) -> PeakMemory:
    """Peak of the memory that a call needs for its activations and scratch space.

    The call runs twice; the second run is measured, so what is made once and kept (packed weights,
    compiled kernels, a chosen algorithm) counts as held.

    On CUDA the caching allocator tells exactly. On a CPU it is the resident set of this process:
    freed memory is handed back to the system, the kernel's high-water mark is reset, and the mark
    after the call minus the resident set before it is the answer. That is a whole number of pages
    and includes scratch space of the kernels and gaps the allocator cannot reuse, unlike a count of
    tensors. A fresh process would give the same but costs an import of torch. Other threads must
    not allocate meanwhile.

    Args:
        call: One forward pass, in eval and inference mode; what it returns is dropped.
        device: Where it runs.

    Returns:
        Bytes; lower is better. Compare `working_bytes`, and weights by their own bytes.

    Raises:
        NotApplicable: A device other than CUDA and CPU, or a system that cannot reset the mark.

    Example:
        >>> found = peak_memory(lambda: torch.ones(2**22), device=torch.device("cpu"))
        >>> 15 < found.working_bytes / 2**20 < 24  # 4 x 2^22 bytes are 16 MB
        True
    """
    if device.type == "cuda":
        return _cuda_peak(call, device)
    if device.type == "cpu":
        return _resident_peak(call)
    raise NotApplicable(f"peak memory is measured on cuda and cpu, not on {device.type}")


def _cuda_peak(call: Callable[[], object], device: torch.device) -> PeakMemory:
    call()
    gc.collect()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    held = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    return PeakMemory(working_bytes=peak - held, held_bytes=held, method="cuda_allocator")


def _resident_peak(call: Callable[[], object]) -> PeakMemory:
    call()
    gc.collect()
    _return_freed_memory()
    _reset_high_water_mark()
    held = _status_bytes("VmRSS")
    call()
    peak = _status_bytes("VmHWM")
    return PeakMemory(working_bytes=max(0, peak - held), held_bytes=held, method="resident_set")


def _return_freed_memory() -> None:
    """Without this, a call would reuse freed pages that are still resident, and seem to need none.

    Raises:
        NotApplicable: The C library is not glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        raise NotApplicable("peak memory on a CPU needs malloc_trim of glibc")
    trim(0)


def _reset_high_water_mark() -> None:
    """Let the kernel count the peak resident set anew from here."""
    try:
        (PROCESS / "clear_refs").write_text("5")
    except OSError as error:
        raise NotApplicable(f"peak memory on a CPU needs Linux's clear_refs: {error}") from error


def _status_bytes(field: str) -> int:
    """A field of the process's status, in bytes."""
    status = (PROCESS / "status").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB$", status, flags=re.MULTILINE)
    if found is None:
        raise NotApplicable(f"peak memory on a CPU needs {field} in {PROCESS / 'status'}")
    return int(found[1]) * 1024
