"""Latency, on a clock that the test moves, and on the real one."""

import gc
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest
import torch

from measurements.functional.timing import (
    ORDER,
    Latency,
    Session,
    best_throughput,
    interleaved_latency,
    latency,
    summarise,
)


@pytest.fixture(autouse=True)
def small_heap() -> Iterator[None]:
    """What other tests left behind is not searched for garbage in every session."""
    gc.freeze()
    yield
    gc.unfreeze()


@dataclass
class Machine:
    """A clock that stands still but for the calls made on it, and a log of them."""

    now: float = 0.0
    log: list[str] = field(default_factory=list)

    def session(self, min_runs: int = 24, min_seconds: float = 0.0) -> Session:
        return Session(min_runs=min_runs, min_seconds=min_seconds, clock=lambda: self.now)

    def call(self, name: str, seconds: Callable[[], float]) -> Callable[[], None]:
        def run() -> None:
            self.log.append(name)
            self.now += seconds()

        return run


def disturbed(machine: Machine, seed: int) -> Callable[[], float]:
    """Seconds with a long tail, and from time to time two slow calls in a row."""
    random = Random(seed)
    slow_until = [0]

    def seconds() -> float:
        if len(machine.log) >= slow_until[0] and random.random() < 0.2:
            slow_until[0] = len(machine.log) + 2
        return random.lognormvariate(0, 0.1) + (len(machine.log) < slow_until[0])

    return seconds


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([5.0], (5.0, 5.0, 5.0, 1)),
        ([2.0, 1.0], (1.0, 2.0, 2.0, 2)),
        ([float(x) for x in range(10, 0, -1)], (5.0, 9.0, 10.0, 10)),
        ([float(x) for x in range(1, 101)], (50.0, 90.0, 99.0, 100)),
        ([float(x) for x in range(1, 102)], (51.0, 91.0, 100.0, 101)),
    ],
    ids=["one", "two", "ten", "hundred", "hundred_and_one"],
)
def test_quantiles_are_observed_values(
    times: list[float], expected: tuple[float, float, float, int]
) -> None:
    median, p90, p99, runs = expected
    assert summarise(times) == Latency(median_ms=median, p90_ms=p90, p99_ms=p99, runs=runs)


def test_no_timing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one run"):
        summarise([])


def test_one_callable_is_timed_in_milliseconds() -> None:
    machine = Machine()
    found = latency(machine.call("model", lambda: 0.25), machine.session())
    assert found == Latency(median_ms=250.0, p90_ms=250.0, p99_ms=250.0, runs=24)


def test_calls_alternate_in_an_order_that_reversed_exchanges_the_two() -> None:
    machine = Machine()
    a, b = machine.call("a", lambda: 1.0), machine.call("b", lambda: 1.0)
    interleaved_latency(a, b, machine.session())
    assert "".join(machine.log) == "a" * 10 + "b" * 10 + "abbabaab" * 6
    assert ORDER[::-1] == ORDER.translate(str.maketrans("ab", "ba"))


def test_a_ratio_below_one_is_a_faster_candidate() -> None:
    machine = Machine()
    fast, slow = machine.call("fast", lambda: 0.5), machine.call("slow", lambda: 2.0)
    found = interleaved_latency(fast, slow, machine.session())
    assert found.candidate.median_ms == 500
    assert found.baseline.median_ms == 2000
    assert found.ratio == 0.25
    assert found.ratio_interval == (0.25, 0.25)


def test_a_machine_that_slows_down_steadily_spoils_no_ratio() -> None:
    machine = Machine()
    drift = machine.call("x", lambda: 1.0 + 0.01 * len(machine.log))
    found = interleaved_latency(drift, drift, machine.session())
    assert found.ratio == pytest.approx(1.0, abs=1e-12)


def test_a_disturbance_spoils_one_block_and_not_the_ratio() -> None:
    machine = Machine()
    a = machine.call("a", lambda: 100.0 if len(machine.log) == 42 else 1.0)
    found = interleaved_latency(a, machine.call("b", lambda: 2.0), machine.session(40))
    assert machine.now > 150
    assert found.ratio == 0.5
    assert found.ratio_interval == (0.5, 0.5)


def test_a_session_lasts_as_many_runs_and_as_long_as_asked() -> None:
    machine = Machine()
    call = machine.call("x", lambda: 0.1)
    assert interleaved_latency(call, call, machine.session(25)).baseline.runs == 28
    long = interleaved_latency(call, call, machine.session(24, min_seconds=10.0))
    assert long.candidate.runs == pytest.approx(50, abs=4)
    assert latency(call, machine.session(24, min_seconds=10.0)).runs == pytest.approx(100, abs=1)


def test_warm_up_is_not_timed() -> None:
    machine = Machine()
    call = machine.call("x", lambda: 9.0 if len(machine.log) <= 5 else 1.0)
    assert latency(call, machine.session()).p99_ms == 1000


@pytest.mark.parametrize(
    ("seconds", "calls"),
    [
        (lambda call: 1.0, 10),
        # 8 7 6 5 4 3 2 1 1 ...: calls 11 to 15 equal the median 1 of 3 2 1 1 1
        (lambda call: max(1.0, 9.0 - call), 15),
        (lambda call: 1.04 ** (call // 5), 10),
        (lambda call: 2.0**call, 100),
    ],
    ids=["steady", "warming", "nearly_steady", "never"],
)
def test_warm_up_ends_when_times_are_steady_or_hope_is_lost(
    seconds: Callable[[int], float], calls: int
) -> None:
    machine = Machine()
    call = machine.call("x", lambda: seconds(len(machine.log)))
    assert machine.session().warm_up(call) == calls


def test_the_device_is_idle_before_and_after_every_run() -> None:
    machine = Machine()
    session = Session(
        min_runs=24,
        min_seconds=0,
        clock=lambda: machine.now,
        synchronize=machine.call("sync", lambda: 1.0),
    )
    # the wait before a run is not its time, the wait after it is
    assert session.run(machine.call("model", lambda: 2.0)) == 3000
    assert machine.log == ["sync", "model", "sync"]


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_during_a_session_and_the_switch_is_put_back(
    enabled: bool,
) -> None:
    machine, seen = Machine(), []
    was_enabled = gc.isenabled()
    (gc.enable if enabled else gc.disable)()
    try:
        latency(lambda: seen.append(gc.isenabled()), machine.session())
        after = gc.isenabled()
    finally:
        (gc.enable if was_enabled else gc.disable)()
    assert not any(seen)
    assert after is enabled


def test_too_few_runs_for_an_interval_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 24, got 23"):
        Session(min_runs=23)


def test_equal_callables_have_an_interval_that_contains_one_as_often_as_promised() -> None:
    contained = 0
    for seed in range(100):
        machine = Machine()
        call = machine.call("x", disturbed(machine, seed))
        low, high = interleaved_latency(call, call, machine.session(400)).ratio_interval
        contained += low <= 1 <= high
    assert contained >= 95 - 4 * math.sqrt(100 * 0.05 * 0.95)


def test_throughput_is_the_best_of_the_sweep() -> None:
    sweep = {1: summarise([10.0]), 32: summarise([100.0, 160.0, 900.0]), 64: summarise([800.0])}
    found = best_throughput(sweep)
    assert (found.images_per_second, found.batch_size) == (200.0, 32)


@pytest.mark.parametrize("sizes", [[], [0, 1]], ids=["none", "zero"])
def test_a_sweep_without_sizes_is_refused(sizes: list[int]) -> None:
    with pytest.raises(ValueError, match="batch size >= 1"):
        best_throughput({size: summarise([1.0]) for size in sizes})


@pytest.mark.slow
def test_ten_milliseconds_of_sleep_take_ten_milliseconds() -> None:
    found = latency(lambda: time.sleep(0.01), Session(min_runs=100, min_seconds=0))
    assert 10 <= found.median_ms <= 11


@pytest.mark.slow
def test_a_network_against_itself_has_a_ratio_of_one() -> None:
    layer, images = torch.nn.Conv2d(16, 16, 3), torch.rand(1, 16, 32, 32)

    def call() -> torch.Tensor:
        with torch.inference_mode():
            return layer(images)

    session = Session(min_runs=100, min_seconds=0.5)
    intervals = [interleaved_latency(call, call, session).ratio_interval for _ in range(5)]
    # each misses 1 with 5 %, so two of five with 2 %, three with 0.1 %
    assert sum(low <= 1 <= high for low, high in intervals) >= 3
