"""Energy by counters and clocks that are written down."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.errors import NotApplicable
from measurements.functional.energy import counter_of, energy_of


class Device:
    """5 W idle; a call lasts a second and takes `joules` more."""

    def __init__(self, joules: float) -> None:
        self.now, self.extra, self.each, self.warm = 0.0, 0.0, joules, False

    def call(self) -> None:
        self.now += 1
        self.extra += self.each if self.warm else 1000  # the first one is dear
        self.warm = True

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def joules(self) -> float:
        return 5 * self.now + self.extra


@pytest.mark.parametrize("joules", [7.0, 0.0], ids=["busy", "idle"])
def test_idle_power_and_the_first_call_are_taken_off(joules: float) -> None:
    device = Device(joules)
    found = energy_of(device.call, device, seconds=4, clock=lambda: device.now, sleep=device.wait)
    assert found.joules_per_call == pytest.approx(joules)
    assert (found.idle_watts, found.calls, found.seconds) == (5, 4, 4)


def zone(root: Path, folder: str, name: str, microjoules: int, most: int = 10**9) -> Path:
    place = root / folder
    place.mkdir()
    values = {"name": f"{name}\n", "energy_uj": microjoules, "max_energy_range_uj": most}
    for file, value in values.items():
        (place / file).write_text(str(value))
    return place


def test_packages_add_up_and_what_is_in_them_does_not(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 2_000_000)
    zone(tmp_path, "intel-rapl:1", "package-1", 3_000_000)
    zone(tmp_path, "intel-rapl:0:0", "core", 1_000_000)
    zone(tmp_path, "intel-rapl:2", "psys", 9_000_000)
    assert counter_of(torch.device("cpu"), powercap=tmp_path).joules() == 5


def test_a_counter_that_starts_again_goes_on(tmp_path: Path) -> None:
    place = zone(tmp_path, "intel-rapl:0", "package-0", 9_000_000, most=10_000_000)
    counter = counter_of(torch.device("cpu"), powercap=tmp_path)
    readings = iter([9_500_000, 1_000_000, 500_000])

    def joules() -> Iterator[float]:
        for value in readings:
            (place / "energy_uj").write_text(str(value))
            yield counter.joules()

    assert list(joules()) == [9.5, 11, 20.5]


@pytest.mark.parametrize(
    ("device", "reason"),
    [("cpu", "no intel-rapl package in"), ("meta", "not on meta")],
)
def test_without_a_counter_it_says_what_was_looked_for(
    device: str, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(NotApplicable, match=reason):
        counter_of(torch.device(device), powercap=tmp_path / "none")


def test_counters_that_only_root_may_read_are_told(tmp_path: Path) -> None:
    place = zone(tmp_path, "intel-rapl:0", "package-0", 1)
    (place / "energy_uj").unlink()
    (place / "energy_uj").mkdir()  # as good as unreadable, also for root
    with pytest.raises(NotApplicable, match="cannot be read"):
        counter_of(torch.device("cpu"), powercap=tmp_path)
