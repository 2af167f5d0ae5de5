"""Pace: requests grow where each costs, stay short where each byte costs, and are never larger than they may be."""

import random
import statistics
import sys
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pace import Pace, PaceLimits

_LIMITS = PaceLimits(most_frames=1200, most_bytes=32 << 20, target_s=1.5)
_FRAME_BYTES = 8_000
Server = Callable[[int], float]
"""Seconds for so many frames."""


def _run(pace: Pace, server: Server, requests: int, frame_bytes: int = _FRAME_BYTES) -> list[int]:
    """Ask a server so many times; return how many frames were asked for each time, and would be next."""
    asked = []
    for _ in range(requests):
        asked.append(pace.frames)
        pace.measured(pace.frames, pace.frames * frame_bytes, server(pace.frames))
    return [*asked, pace.frames]


def _linear(request_s: float, frame_s: float) -> Server:
    return lambda frames: request_s + frames * frame_s


def _noisy(server: Server, share: float, seed: int) -> Server:
    """Vary what a server takes by as much as this share of it, up and down."""
    chance = random.Random(seed)
    return lambda frames: server(frames) * chance.uniform(1 - share, 1 + share)


@given(
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 1 << 28), st.floats(0, 1e4)), max_size=100),
    st.integers(1, 2000),
    st.integers(1, 1 << 26),
)
def test_bounds_hold_whatever_is_measured(told: list[tuple[int, int, float]], frames: int, most_bytes: int) -> None:
    """At least one frame and no more than allowed, after answers of any size and any time."""
    pace = Pace(PaceLimits(frames, most_bytes))
    assert 1 <= pace.frames <= frames
    for answer in told:
        pace.measured(*answer)
        assert 1 <= pace.frames <= frames


def test_an_empty_answer_teaches_nothing() -> None:
    """A group of patches that needed no new frame says nothing of the server."""
    pace = Pace(_LIMITS)
    before = pace.frames
    pace.measured(0, 0, 99.0)
    assert pace.frames == before


def test_the_first_request_is_small() -> None:
    """The encoder is not kept waiting for a large first answer, and the first is already an answer to learn from."""
    assert 16 <= Pace(_LIMITS).frames <= 200
    assert Pace(PaceLimits(most_frames=5)).frames == 5


@pytest.mark.parametrize("request_s", [0.05, 0.2, 2.0, 20.0])
def test_where_each_request_costs_they_grow_to_the_largest(request_s: float) -> None:
    """A server that takes long for any request (Orthanc) is asked for as much as possible, after few requests."""
    asked = _run(Pace(_LIMITS), _linear(request_s, 0.0001), 40)
    assert _LIMITS.most_frames in asked[:8]
    assert min(asked[8:]) > 0.5 * _LIMITS.most_frames


@pytest.mark.parametrize("frame_s", [0.0025, 0.01, 0.1, 0.5])
def test_where_each_frame_costs_requests_take_the_time_aimed_at(frame_s: float) -> None:
    """A thin line has answers of about the time aimed at, so that nothing waits long for anything."""
    asked = _run(Pace(_LIMITS), _linear(0.0, frame_s), 40)
    assert asked[5:] == pytest.approx([_LIMITS.target_s / frame_s] * len(asked[5:]), rel=0.05, abs=1)


def test_the_fixed_part_becomes_small() -> None:
    """Where both cost, requests are so large that the fixed part is about a tenth of each."""
    asked = _run(Pace(_LIMITS), _linear(0.4, 0.01), 40)
    assert asked[10:] == pytest.approx([0.4 * 9 / 0.01] * len(asked[10:]), rel=0.05)


def test_a_frame_that_takes_for_ever_is_asked_for_alone() -> None:
    """Slower than the time aimed at, it is one frame a request, and never none."""
    assert set(_run(Pace(_LIMITS), _linear(0.0, 30.0), 100)[4:]) == {1}


@pytest.mark.parametrize("frame_bytes", [100_000, 1_000_000, 32 << 20, 1 << 30])
def test_large_frames_come_in_small_requests(frame_bytes: int) -> None:
    """No request is expected to bring more bytes than it may, however fast the server; but for a single frame."""
    asked = _run(Pace(_LIMITS), _linear(0.2, 0.0001), 20, frame_bytes)
    assert asked[1:] == [max(1, (32 << 20) // frame_bytes)] * 20


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_noise_does_not_keep_requests_small(seed: int, share: float) -> None:
    """Times that vary by half do not hide that each request costs."""
    asked = _run(Pace(_LIMITS), _noisy(_linear(0.5, 0.0001), share, seed), 200)
    assert _LIMITS.most_frames in asked[:10]
    late = asked[10:]
    assert sum(late) / len(late) > 0.8 * _LIMITS.most_frames


def test_noise_does_not_make_requests_long() -> None:
    """Times that vary by a third, on a thin line: but for a few too large, answers take about what they should."""
    runs = [_run(Pace(_LIMITS), _noisy(_linear(0.0, 0.01), 0.33, seed), 300)[10:] for seed in range(20)]
    seconds = [frames * 0.01 for asked in runs for frames in asked]
    assert statistics.median(seconds) == pytest.approx(_LIMITS.target_s, rel=0.1)
    assert sum(one > 4 * _LIMITS.target_s for one in seconds) < 0.05 * len(seconds)


@pytest.mark.parametrize("slow", [2.0, 20.0])
def test_a_slow_start_is_forgotten(slow: float) -> None:
    """A first answer that takes much longer (a slide read from tape, a cold cache) does not set the pace for good."""
    pace, server = Pace(_LIMITS), _linear(0.2, 0.0001)
    pace.measured(pace.frames, pace.frames * _FRAME_BYTES, slow)
    assert _LIMITS.most_frames in _run(pace, server, 100)


def test_a_server_that_becomes_slow_is_noticed() -> None:
    """When the line becomes thin, requests become short."""
    pace = Pace(_LIMITS)
    _run(pace, _linear(0.0, 0.0005), 50)
    assert pace.frames == _LIMITS.most_frames
    asked = _run(pace, _linear(0.0, 0.05), 100)
    assert asked[-1] == pytest.approx(1.5 / 0.05, rel=0.1)


def test_a_server_that_becomes_fast_is_noticed() -> None:
    """When the line becomes wide, requests become large again."""
    pace = Pace(_LIMITS)
    _run(pace, _linear(0.0, 1.0), 50)
    assert pace.frames <= 2
    assert _LIMITS.most_frames in _run(pace, _linear(0.0, 0.0005), 200)


def test_several_threads_may_measure() -> None:
    """Answers that come at the same time are all taken note of, and what is learnt is what one thread learns."""
    pace, threads, turns = Pace(_LIMITS), 8, 500
    meeting = threading.Barrier(threads)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        meeting.wait(10)
        try:
            for turn in range(turns):
                frames = 100 + 10 * number + turn % 7
                pace.measured(frames, frames * 60_000, 0.2 + frames * 0.01)
                assert 1 <= pace.frames <= _LIMITS.most_frames
        except BaseException as exc:  # noqa: BLE001 - handed to the test
            failed.append(exc)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    between = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # as often as can be, so that nothing is lost by luck
    try:
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(30)
    finally:
        sys.setswitchinterval(between)
    assert not failed
    assert pace._frames == sum(100 + 10 * number + turn % 7 for number in range(threads) for turn in range(turns))
    # 0.2 s a request, 0.01 s a frame: 180 frames make the former a tenth of 2 s.
    assert pace.frames == pytest.approx(180, rel=0.05)
