"""Measured energy: joules that a device took while it worked, minus what it takes idle."""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch

from core.errors import NotApplicable

POWERCAP = Path("/sys/class/powercap")


class Counter(Protocol):
    """An energy counter of the hardware."""

    def joules(self) -> float:
        """Energy since some moment in the past; never falls."""


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy of repeated calls."""

    joules: float  # of all calls, idle power taken off; noise may make it negative
    idle_watts: float
    calls: int
    seconds: float

    @property
    def joules_per_call(self) -> float:
        """Energy of one call above idle."""
        return self.joules / self.calls


def energy_of(
    call: Callable[[], object],
    counter: Counter,
    *,
    seconds: float = 10.0,
    idle_seconds: float = 5.0,
    synchronize: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> Energy:
    """Energy of a call, from a counter read around many of them.

    First nothing is done for `idle_seconds`, which gives the power to take off; then the call is
    repeated. The counter knows no processes: what else runs on the device counts too.

    Args:
        call: One forward pass, in eval and inference mode.
        counter: Of the device it runs on.
        seconds: Least duration of the calls; counters are updated some ten times a second.
        idle_seconds: Duration of the idle period.
        synchronize: Waits for the device.
        clock: Seconds, as `time.perf_counter`.
        sleep: Does nothing for some seconds.

    Returns:
        Joules; lower is better.

    Example:
        >>> now = [0.0]
        >>> class Watts:  # 2 W, and 3 J more for each call of a second
        ...     calls = 0
        ...     def joules(self):
        ...         return 2 * now[0] + 3 * self.calls
        ...     def work(self):
        ...         now[0], self.calls = now[0] + 1, self.calls + 1
        >>> device = Watts()
        >>> wait = lambda seconds: now.__setitem__(0, now[0] + seconds)
        >>> found = energy_of(device.work, device, clock=lambda: now[0], sleep=wait)
        >>> found.joules_per_call, found.idle_watts, found.calls
        (3.0, 2.0, 10)
    """
    call()  # what is made once is not the price of a call
    synchronize()
    first, started = counter.joules(), clock()
    sleep(idle_seconds)
    idle_watts = (counter.joules() - first) / (clock() - started)
    before, started, calls = counter.joules(), clock(), 0
    while clock() - started < seconds:
        call()
        synchronize()
        calls += 1
    elapsed = clock() - started
    joules = counter.joules() - before - idle_watts * elapsed
    return Energy(joules=joules, idle_watts=idle_watts, calls=calls, seconds=elapsed)


def counter_of(device: torch.device, *, powercap: Path = POWERCAP) -> Counter:
    """Counter of what a device takes: the board of a GPU, the packages of a CPU (not its memory).

    Raises:
        NotApplicable: There is none that can be read; the text says what was looked for.
    """
    if device.type == "cuda":
        return _Board(device)
    if device.type == "cpu":
        return _packages(powercap)
    raise NotApplicable(f"energy is measured on cuda and cpu, not on {device.type}")


class _Board:
    """A GPU as NVML knows it, by its UUID: visible devices may be numbered in another way."""

    def __init__(self, device: torch.device) -> None:
        try:
            self.nvml = importlib.import_module("pynvml")
        except ModuleNotFoundError as error:
            raise NotApplicable(
                "the energy of a GPU is read with pynvml, which is not installed"
            ) from error
        try:
            self.nvml.nvmlInit()
            uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
            self.handle = self.nvml.nvmlDeviceGetHandleByUUID(uuid)
            self.joules()
        except self.nvml.NVMLError as error:
            raise NotApplicable(f"NVML gives no energy of this GPU: {error}") from error

    def joules(self) -> float:
        """Of the whole board, its memory included."""
        return self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1000  # mJ


@dataclass
class _Zone:
    """An energy counter in sysfs, which starts again at 0 after its range."""

    folder: Path
    wraps: int = 0
    last: int = 0
    range: int = field(init=False)

    def __post_init__(self) -> None:
        self.range = int((self.folder / "max_energy_range_uj").read_text())
        self.last = self._read()

    def joules(self) -> float:
        """Energy with the ranges that went by; read it at least once in each."""
        now = self._read()
        self.wraps += now < self.last
        self.last = now
        return (self.wraps * self.range + now) / 1e6

    def _read(self) -> int:
        return int((self.folder / "energy_uj").read_text())


@dataclass(frozen=True)
class _Zones:
    zones: tuple[_Zone, ...]

    def joules(self) -> float:
        """Sum over the packages."""
        return sum(zone.joules() for zone in self.zones)


def _packages(powercap: Path) -> Counter:
    """RAPL counters of all CPU packages; `psys` and zones within a package would count twice."""
    folders = sorted(powercap.glob("intel-rapl:*")) if powercap.is_dir() else []
    try:
        named = [folder for folder in folders if _name(folder).startswith("package")]
        zones = tuple(map(_Zone, named))
    except OSError as error:
        raise NotApplicable(f"the energy counters of the CPU cannot be read: {error}") from error
    if not zones:
        raise NotApplicable(f"there is no energy counter: no intel-rapl package in {powercap}")
    return _Zones(zones)


def _name(folder: Path) -> str:
    return (folder / "name").read_text().strip()
