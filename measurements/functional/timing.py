"""Measured time: two callables in one interleaved session, so that both see the same machine."""

import gc
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch

from measurements.functional.intervals import Interval, median_interval

MIN_RUNS = 100
MIN_SECONDS = 10.0
ORDER = "abbabaab"
"""Order of candidate (a) and baseline (b) within a block: ABBA, then its opposite.

Reversed it is itself with a and b exchanged, so for equal callables the ratio of a block is as
often above 1 as below. ABBA alone is not: a and a lie further apart than b and b, so a disturbance
of a few calls hits a in more blocks, and a long session of a loaded machine finds a slower.
"""

RUNS_PER_BLOCK = 4
WARMUP_RUNS = 10
WARMUP_MOST = 100
STEADY = 0.05
"""Warm-up ends when the medians of the last five runs and the five before are this close."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Wall-clock time of one call, in milliseconds."""

    median_ms: float
    p90_ms: float
    p99_ms: float
    runs: int


@dataclass(frozen=True, kw_only=True)
class PairedLatency:
    """Two callables timed in one session. Numbers of two sessions are not to be subtracted."""

    candidate: Latency
    baseline: Latency
    ratio: float  # median over blocks of candidate / baseline; below 1 is faster
    ratio_interval: Interval  # 95 %


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Images a second at the batch size that gave most."""

    images_per_second: float
    batch_size: int


@dataclass(frozen=True, kw_only=True)
class Session:
    """How long to time, and with what clock.

    Args:
        min_runs: Timed calls of each callable, at least 24.
        min_seconds: Least duration of the session, warm-up not counted.
        synchronize: Waits for the device, `torch.cuda.synchronize` for CUDA; nothing for a CPU.
        clock: Seconds, as `time.perf_counter`.
    """

    min_runs: int = MIN_RUNS
    min_seconds: float = MIN_SECONDS
    synchronize: Callable[[], object] = lambda: None
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        if self.min_runs < 24:  # 6 blocks of 4: fewer have no 95 % interval of their median
            raise ValueError(f"min_runs must be at least 24, got {self.min_runs}")

    def run(self, call: Callable[[], object]) -> float:
        """Milliseconds of one call, from an idle device to an idle device."""
        self.synchronize()
        start = self.clock()
        call()
        self.synchronize()
        return (self.clock() - start) * 1000

    def warm_up(self, call: Callable[[], object]) -> int:
        """Call until the time is steady, and return how many calls that took.

        The first calls pay for memory, code caches and the choice of algorithms.
        """
        times: list[float] = []
        while len(times) < WARMUP_MOST:
            times.append(self.run(call))
            if len(times) >= WARMUP_RUNS and _steady(times):
                break
        return len(times)


def summarise(times_ms: Iterable[float]) -> Latency:
    """Summarise repeated timings; quantiles are observed values, never interpolated.

    Args:
        times_ms: Milliseconds, at least one.

    Example:
        >>> summarise([3.0, 1.0, 2.0])
        Latency(median_ms=2.0, p90_ms=3.0, p99_ms=3.0, runs=3)
    """
    ordered = sorted(times_ms)
    if not ordered:
        raise ValueError("no timings to summarise: measure at least one run")
    # the slack keeps 0.9 * 10 = 9.000000000000002 from choosing the next value
    half, p90, p99 = (
        ordered[max(0, math.ceil(q * len(ordered) - 1e-9) - 1)] for q in (0.5, 0.9, 0.99)
    )
    return Latency(median_ms=half, p90_ms=p90, p99_ms=p99, runs=len(ordered))


def latency(call: Callable[[], object], session: Session | None = None) -> Latency:
    """Time one callable on its own, after warming up.

    Args:
        call: One forward pass, in eval and inference mode, on inputs already on the device.
        session: How long to time.

    Returns:
        Milliseconds; lower is better. To compare two models use `interleaved_latency`.

    Example:
        >>> import itertools
        >>> ticks = itertools.count(0.0)  # a clock on which everything takes a second
        >>> session = Session(min_runs=24, min_seconds=0, clock=ticks.__next__)
        >>> latency(lambda: None, session).median_ms
        1000.0

    Reference:
        Reddi et al., MLPerf inference benchmark (2020), single-stream scenario.
    """
    session = session or Session()
    with _no_garbage_collection():
        session.warm_up(call)
        times: list[float] = []
        end = session.clock() + session.min_seconds
        while len(times) < session.min_runs or session.clock() < end:
            times.append(session.run(call))
    return summarise(times)


def interleaved_latency(
    candidate: Callable[[], object],
    baseline: Callable[[], object],
    session: Session | None = None,
) -> PairedLatency:
    """Time two callables in blocks of eight calls, ABBA BAAB.

    Within a block a machine that slows down steadily slows both alike. The ratio is the median of
    the blocks' ratios, so a disturbance spoils one block and not the result.

    Args:
        candidate: One forward pass, in eval and inference mode, on inputs already on the device.
        baseline: The same of the model it is compared with.
        session: How long to time.

    Returns:
        Both latencies, their ratio and its 95 % interval, which contains 1 for equal callables in
        95 % of sessions.

    Example:
        >>> now = [0.0]
        >>> def takes(seconds):
        ...     return lambda: now.__setitem__(0, now[0] + seconds)
        >>> session = Session(min_runs=24, min_seconds=0, clock=lambda: now[0])
        >>> found = interleaved_latency(takes(1), takes(4), session)
        >>> found.candidate.median_ms, found.baseline.runs, found.ratio
        (1000.0, 24, 0.25)

    Reference:
        Reddi et al., MLPerf inference benchmark (2020), single-stream scenario. The order is
        the Thue-Morse sequence.
    """
    session = session or Session()
    with _no_garbage_collection():
        session.warm_up(candidate)
        session.warm_up(baseline)
        times = _times(candidate, baseline, session)
    ours, theirs = _of("a", times), _of("b", times)
    ratios = [sum(a) / sum(b) for a, b in zip(ours, theirs, strict=True)]
    return PairedLatency(
        candidate=summarise(itertools.chain.from_iterable(ours)),
        baseline=summarise(itertools.chain.from_iterable(theirs)),
        ratio=median(ratios),
        ratio_interval=median_interval(torch.tensor(ratios, dtype=torch.float64)),
    )


def best_throughput(latencies: Mapping[int, Latency]) -> Throughput:
    """Most images a second over a sweep of batch sizes.

    Args:
        latencies: Batch size -> latency of a call with a batch of that size.

    Returns:
        Batch size over median latency, at its best batch size; higher is better.

    Example:
        >>> sweep = {1: summarise([10.0]), 8: summarise([40.0]), 64: summarise([640.0])}
        >>> best_throughput(sweep)
        Throughput(images_per_second=200.0, batch_size=8)
    """
    if not latencies or min(latencies) < 1:
        raise ValueError(f"expected latencies by batch size >= 1, got sizes {sorted(latencies)}")
    rates = {size: size / found.median_ms * 1000 for size, found in latencies.items()}
    best = max(rates, key=lambda size: rates[size])
    return Throughput(images_per_second=rates[best], batch_size=best)


def _times(
    candidate: Callable[[], object], baseline: Callable[[], object], session: Session
) -> list[float]:
    """Milliseconds of whole blocks in `ORDER`.

    One flat loop that does the same between any two calls: more work between blocks than within
    them is enough to make the first call of a block measurably slower.
    """
    calls = {"a": candidate, "b": baseline}
    least = math.ceil(session.min_runs / RUNS_PER_BLOCK) * len(ORDER)
    times: list[float] = []
    end = session.clock() + session.min_seconds
    for name in itertools.cycle(ORDER):
        whole = len(times) % len(ORDER) == 0
        if session.clock() >= end and len(times) >= least and whole:
            break
        times.append(session.run(calls[name]))
    return times


def _of(name: str, times: list[float]) -> list[list[float]]:
    """Times of one of the two, block by block."""
    places = [place for place, one in enumerate(ORDER) if one == name]
    starts = range(0, len(times), len(ORDER))
    return [[times[start + place] for place in places] for start in starts]


def _steady(times: list[float]) -> bool:
    last, before = median(times[-5:]), median(times[-10:-5])
    return abs(last - before) <= STEADY * before


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection in the middle of a run would be counted as the model's time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
