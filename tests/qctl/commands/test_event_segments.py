"""`qctl events record`, `events summary`, `--replay DIR`, `--history`: recordings in segments."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from qcore import App
from qcore.events import recording
from qcore.events.history.reading import recorded, slots, span
from qcore.events.history.segments import FolderRecorder, segments
from qcore.wire import event as wire
from qctl import exit_codes
from qctl.dashboard.screens.keys import Dashboard
from qctl.dashboard.sources.base import started
from qctl.dashboard.sources.replay import NEAR_S, Replay
from qctl.dashboard.state.history import load
from qctl.dashboard.state.series import Charts
from qctl.main import main
from qctl.output.text import stamp
from tests.support.waiting import wait_for

START = 1_700_000_040.0  # the begin of a minute


def life(number: int, at: float) -> list[dict[str, Any]]:
    one = {"uuid": f"u{number}", "hostname": "w1@host", "timestamp": at, "name": "proj.add"}
    failed = number % 4 == 0
    end = (
        {"type": "task-failed", "exception": "KeyError(1)"}
        if failed
        else {"type": "task-succeeded", "runtime": 0.5}
    )
    return [{**one, "type": "task-received", "args": os.urandom(200).hex()}, {**one, **end}]


def record(recorder: FolderRecorder, first: int, last: int) -> None:
    """One task per second."""
    for number in range(first, last):
        recorder.write(life(number, START + number), START + number, {"mails": number})


@pytest.fixture
def tape(tmp_path: Path) -> str:
    """Twenty minutes in segments of five, with a gap of ten minutes in the middle."""
    for first, last in ((0, 600), (1200, 1800)):
        recorder = FolderRecorder(str(tmp_path / "tape"), "gz", rotate_s=300.0)
        record(recorder, first, last)
        recorder.close()
    return str(tmp_path / "tape")


@pytest.mark.parametrize("packing", ["gz", "zst", "none"])
def test_segments_stay_below_their_limit_and_the_newest_are_kept(tmp_path: Path, packing: str) -> None:
    limit, sizes = 60_000, []
    recorder = FolderRecorder(str(tmp_path), packing, rotate_s=300.0, most_bytes=limit)

    for number in range(400):
        recorder.write(life(number, START + number), START + number)
        recorder._flush()
        sizes.append(recorder.size())
    recorder.close()

    assert max(sizes) <= limit and recorder.deleted > 0
    begin, end = span(str(tmp_path)) or (0.0, 0.0)
    assert end == START + 399
    with recorded(str(tmp_path)) as batches:
        assert [at for at, _ in batches] == [begin + n for n in range(int(end - begin) + 1)]


def test_segments_are_deleted_by_age(tmp_path: Path) -> None:
    recorder = FolderRecorder(str(tmp_path), "none", rotate_s=60.0, keep_s=120.0)

    record(recorder, 0, 600)

    begin, _ = span(str(tmp_path)) or (0.0, 0.0)
    assert 120.0 <= START + 599 - begin <= 190.0
    recorder.close()


def test_what_a_killed_recorder_wrote_is_read_and_the_next_one_begins_a_file(tmp_path: Path) -> None:
    program = f"""
import os
from qcore.events.history.segments import FolderRecorder
recorder = FolderRecorder({str(tmp_path)!r})
for n in range(100):
    event = {{"type": "task-sent", "uuid": str(n), "hostname": "c@h", "timestamp": {START} + n}}
    recorder.write([event], {START} + n)
recorder._flush()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], check=False)

    recorder = FolderRecorder(str(tmp_path))
    record(recorder, 100, 110)
    recorder.close()

    with recorded(str(tmp_path)) as batches:
        assert [at for at, _ in batches] == [START + n for n in range(110)]
    assert len(segments(tmp_path)) == 2
    assert sum(slot.kinds.get("task-sent", 0) for slot in slots(str(tmp_path))) == 100


def test_events_are_recorded_until_sigterm(tmp_path: Path) -> None:
    url, folder = f"sqlite:///{tmp_path / 'broker.sqlite'}", str(tmp_path / "tape")
    app = App("client", broker=url, set_as_current=False)
    beat = {"type": "worker-heartbeat", "hostname": "w1@host", "timestamp": START, "freq": 2.0}
    raw = wire.encode([beat], "w1@host", "worker.heartbeat")

    def publish() -> None:
        wait_for(lambda: app.broker.broadcast(wire.EXCHANGE, "worker.heartbeat", raw))
        wait_for(lambda: Path(folder).is_dir() and span(folder))
        os.kill(os.getpid(), signal.SIGTERM)  # the recorder runs: it has written the event

    thread = threading.Thread(target=publish)
    thread.start()
    code = main(["-b", url, "events", "record", folder])
    thread.join()

    with recorded(folder) as batches:
        assert [event["hostname"] for _, batch in batches for event in batch] == ["w1@host"]
    assert code == exit_codes.OK


def test_a_second_recorder_of_a_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorder = FolderRecorder(str(tmp_path))

    code = main(["-b", "memory://second", "events", "record", str(tmp_path)])

    assert code == exit_codes.REFUSED
    assert f"another recorder writes to '{tmp_path}'" in capsys.readouterr().err
    recorder.close()


def test_the_summary_of_segments_names_the_worst_minute_failures_and_gaps(
    tape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(["events", "summary", tape, "-o", "json"])
    found = json.loads(capsys.readouterr().out)
    main(["events", "summary", tape])
    page = capsys.readouterr().out

    assert code == exit_codes.OK
    assert found["outcomes"]["succeeded"] == 900 and found["outcomes"]["failed"] == 300
    assert found["failures"] == [{"name": "proj.add", "exception": "KeyError", "count": 300}]
    assert [gap["s"] for gap in found["gaps"]] == [600]
    assert found["worst_minute"]["failed"] == 15 and found["workers"] == ["w1@host"]
    assert found["slowest"][0]["name"] == "proj.add" and found["slowest"][0]["longest_s"] == 0.5
    assert "Gaps      1" in page and "10 min 0 s" in page and "300  proj.add  KeyError" in page


def test_a_moment_of_a_folder_is_shown_without_reading_the_rest(
    tape: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, *_ = segments(tape)
    second.path.write_bytes(b"not to be read")

    code = main(
        ["-b", "memory://at", "events", "--replay", tape, "--at", "10s", "--once", "--view", "tasks", "-C"]
    )

    printed = capsys.readouterr().out
    assert code == exit_codes.OK, first
    assert "proj.add" in printed and "u1789" in printed and "u1790" not in printed


def test_charts_begin_with_the_history_of_a_recorder_and_a_gap_is_a_gap(tape: str) -> None:
    charts = Charts()

    load(charts, tape, START + 1800)

    done = charts.series["done"].columns(START + 1799, 60, 30)
    assert done == [1.0] * 10 + [None] * 10 + [1.0] * 10
    failed = charts.groups["proj.add", "KeyError"].per_s.columns(START + 1799, 60, 30)
    assert [round(failed[n] or 0.0, 3) for n in (0, -1)] == [0.25, 0.25] and failed[15] is None
    assert charts.queues["mails"].columns(START + 1799, 15, 1)[0] == 1799
    charts.sample(START + 1800)
    charts.sample(START + 1802)
    assert charts.series["done"].columns(START + 1801, 1, 1) == [0.0]


def test_a_replay_reads_old_charts_later_and_they_equal_those_that_are_read_at_once(tmp_path: Path) -> None:
    recorder = FolderRecorder(str(tmp_path), "none")
    for number in range(4 * 60):  # four hours; one task type ends with the first, one begins with the last
        name = ("proj.old", "proj.add", "proj.add", "proj.new")[number // 60]
        at = START + 60 * number
        events = [{**event, "name": name, "timestamp": at} for event in life(number, at)]
        recorder.write(events, at, {f"{name}s": number})
    recorder.close()
    app = App("tape", broker="memory://old", set_as_current=False)
    replay = Replay(app, str(tmp_path), 0.0, 1_000, None)
    read_from = START + 60 * 239 - NEAR_S
    whole = Charts()
    load(whole, str(tmp_path), read_from)

    def shown(charts: Charts) -> dict[str, object]:
        until, names = read_from - 120, ("proj.old", "proj.add", "proj.new")
        lines = {f"{name} done": charts.types[name].done for name in names if name in charts.types}
        lines |= {f"{name} failed": g.per_s for (name, _), g in charts.groups.items()}
        lines |= {"done": charts.series["done"], **charts.queues}
        lists = {name: line.columns(until, step, 120) for name, line in lines.items() for step in (60, 120)}
        return {**lists, "heat": charts.heat.within(1, until, 120, 120), "began": charts.began}

    with started(replay):
        wait_for(lambda: replay.is_complete)
        first = replay.take().charts
        assert first is not None and first.began == START and {*first.types} == {*whole.types}
        wait_for(lambda: shown(replay.memory.charts) == shown(whole))
    assert any(whole.types["proj.old"].done.columns(read_from, 120, 110))


def test_a_jump_forward_over_many_events_reads_those_near_the_moment_only(
    tape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qctl.dashboard.sources.replay.NEAR_EVENTS", 100)
    feed = Replay(App("tape", broker="memory://on", set_as_current=False), tape, 1.0, 1_000, None)
    feed.pause(True)

    with started(feed):
        wait_for(lambda: feed.is_complete)
        feed.step(500.0)
        wait_for(lambda: feed.is_complete)
        snapshot = feed.take()

    assert snapshot.at == START + 500.0 and 0 < snapshot.events < 200


def test_any_minute_of_48_hours_is_on_the_screen_after_reading_a_few_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit, sizes, read, hour = 700_000, [], [0], 3600.0
    recorder = FolderRecorder(str(tmp_path), "gz", keep_s=48 * hour, most_bytes=limit)
    for number in range(50 * 20):  # every three minutes
        at = START + 180 * number
        recorder.write([{**one, "timestamp": at} for one in life(number, at)], at)
        sizes.append(recorder.size() if number % 20 == 0 else 0)
    recorder.close()
    decode = recording._decode

    def counted(line: bytes) -> Any:
        read[0] += 1
        return decode(line)

    monkeypatch.setattr(recording, "_decode", counted)
    feed = Replay(App("tape", broker="memory://48", set_as_current=False), str(tmp_path), 1.0, 1_000, None)
    length = feed.end - feed.begin
    shown = []

    async def jump(window: Dashboard, pilot: Any, to: float) -> None:
        read[0] = 0
        await pilot.press("colon")
        window.line.value = f"at {stamp(to)}"
        await pilot.press("enter")
        await asyncio.to_thread(wait_for, lambda: feed.is_complete and feed.memory.state.events > 0)
        window.redraw()
        shown.append((round(window.picture.at - to), window.picture.remembered > 0, read[0] < 400))

    async def play() -> None:
        window = Dashboard(feed)
        async with window.run_test(size=(100, 30)) as pilot:
            feed.pause(True)
            for share in (0.5, 0.99, 0.01, 0.51, 0.5):
                await jump(window, pilot, feed.begin + share * length)

    with started(feed):
        asyncio.run(play())

    assert max(sizes) <= limit and recorder.deleted > 0 and length > 40 * hour
    assert shown == [(0, True, True)] * 5


def test_old_charts_come_from_folds_and_show_what_the_indexes_say(tape: str) -> None:
    def shown() -> list[object]:
        charts = Charts()
        load(charts, tape, START + 10 * 3600)
        failed = charts.groups["proj.add", "KeyError"].per_s
        rings = (charts.series["done"], failed, charts.types["proj.add"].busy)
        return [[v and round(v, 6) for v in ring.columns(START + 1799, 120, 15)] for ring in rings]

    with_folds = shown()
    for segment in segments(tape)[:-1]:
        assert segment.folds_path.stat().st_size < segment.index_path.stat().st_size / 3
        segment.folds_path.unlink()
    without = shown()

    assert with_folds == without
    assert with_folds[0] == [1.0] * 5 + [None] * 5 + [1.0] * 5
