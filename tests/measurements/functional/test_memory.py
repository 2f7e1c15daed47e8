"""Peak memory, on calls that need a known amount."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from core.errors import NotApplicable
from measurements.functional import memory
from measurements.functional.memory import PeakMemory, peak_memory

ROOT = Path(__file__).resolve().parents[3]
MEGABYTE = 2**20
CPU = torch.device("cpu")
ALONE = "INTERPLAY_TEST_ALONE"

linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc/self/clear_refs"
)

alone = pytest.mark.skipif(
    ALONE not in os.environ, reason="runs in a process of its own, started by another test"
)


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """What other tests left behind is not searched for garbage in every measurement."""
    gc.freeze()
    yield
    gc.unfreeze()


def allocate(*megabytes: int) -> float:
    """Hold tensors of these sizes together."""
    tensors = [torch.ones(size * MEGABYTE // 4) for size in megabytes]
    return sum(tensor[0].item() for tensor in tensors)


def least(call: Callable[[], object]) -> PeakMemory:
    """The least of some measurements: what else happens in the process can only add to one."""
    found = [peak_memory(call, device=CPU) for _ in range(5)]
    return min(found, key=lambda peak: peak.working_bytes)


@linux
@pytest.mark.slow
@pytest.mark.skipif(ALONE in os.environ, reason="this is that process")
def test_amounts_are_exact_in_a_process_of_its_own() -> None:
    # thousands of other tests leave freed blocks behind that move a result by megabytes
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", __file__]
    found = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, ALONE: "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout
    assert " passed" in found.stdout


@alone
@pytest.mark.parametrize("megabytes", [2, 8, 64])
def test_a_call_needs_what_it_allocates(megabytes: int) -> None:
    found = least(lambda: allocate(megabytes))
    # pages of 4 KB, and counters of the kernel that lag by some of them
    assert found.working_bytes == pytest.approx(megabytes * MEGABYTE, abs=MEGABYTE)
    assert found.method == "resident_set"
    assert found.peak_bytes == found.held_bytes + found.working_bytes


IN_TURN = """
import torch
from measurements.functional.memory import peak_memory

def allocate(*megabytes):
    tensors = [torch.ones(size * 2**20 // 4) for size in megabytes]
    return sum(tensor[0].item() for tensor in tensors)

for call in (lambda: allocate(40, 40), lambda: (allocate(40), allocate(40))):
    print(peak_memory(call, device=torch.device("cpu")).working_bytes / 2**20)
"""


@linux
@pytest.mark.slow
def test_what_is_held_together_adds_up_and_what_follows_does_not() -> None:
    # blocks above 32 MB go back to the system at once, smaller ones may leave gaps in the heap; a
    # process of its own, because libraries of other tests change how the allocator gives back
    answer = subprocess.run(
        [sys.executable, "-c", IN_TURN], cwd=ROOT, capture_output=True, text=True, check=True
    )
    together, in_turn = map(float, answer.stdout.split())
    assert together == pytest.approx(80, abs=1)
    assert in_turn == pytest.approx(40, abs=1)


@alone
def test_memory_freed_before_the_call_does_not_hide_its_need() -> None:
    # blocks below the allocator's threshold stay in its heap when they are freed
    blocks = [torch.ones(MEGABYTE // 40) for _ in range(400)]
    del blocks
    found = least(lambda: [torch.ones(MEGABYTE // 40) for _ in range(200)])
    assert found.working_bytes == pytest.approx(20 * MEGABYTE, rel=0.1)


@alone
def test_an_earlier_peak_of_the_process_is_forgotten() -> None:
    allocate(100)
    assert least(lambda: allocate(4)).working_bytes < 6 * MEGABYTE


@alone
def test_a_call_that_allocates_nothing_needs_nothing() -> None:
    assert least(lambda: None).working_bytes < MEGABYTE // 2


@alone
def test_what_the_first_call_makes_and_keeps_counts_as_held() -> None:
    kept: list[torch.Tensor] = []

    def call() -> None:
        if not kept:
            kept.append(torch.ones(50 * MEGABYTE // 4))

    assert peak_memory(call, device=CPU).working_bytes < MEGABYTE


@alone
def test_measuring_twice_gives_the_same() -> None:
    first, second = (least(lambda: allocate(16)) for _ in range(2))
    assert first.working_bytes == pytest.approx(second.working_bytes, abs=MEGABYTE // 2)


def test_a_system_that_cannot_reset_its_mark_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "PROCESS", tmp_path / "absent")
    with pytest.raises(NotApplicable, match=r"peak memory on a CPU needs"):
        peak_memory(lambda: None, device=CPU)


def test_a_status_without_the_field_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "status").write_text("Name:\tpython\n")
    monkeypatch.setattr(memory, "PROCESS", tmp_path)
    with pytest.raises(NotApplicable, match=r"needs VmRSS in"):
        peak_memory(lambda: None, device=CPU)


def test_other_devices_are_not_applicable() -> None:
    with pytest.raises(NotApplicable, match="not on meta"):
        peak_memory(lambda: None, device=torch.device("meta"))


def test_the_peak_is_what_is_held_and_what_is_added() -> None:
    found = PeakMemory(working_bytes=3, held_bytes=4, method="cuda_allocator")
    assert found.peak_bytes == 7


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_allocator_of_a_gpu_tells_exactly() -> None:
    device = torch.device("cuda")
    weights = torch.ones(MEGABYTE, device=device)
    found = peak_memory(lambda: weights * 2 + 1, device=device)
    assert found.method == "cuda_allocator"
    assert found.working_bytes == 8 * MEGABYTE
    assert found.held_bytes >= 4 * MEGABYTE
