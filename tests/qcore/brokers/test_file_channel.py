"""Messages as files: another process reads a file at any moment of its writing."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import pytest
from kombu.connection import Connection

from qcore.brokers.kombu import file_channel
from qcore.brokers.kombu.connection import KombuConnection

MESSAGE = {"body": "one"}


def options(folder: Path) -> dict[str, Any]:
    return {
        "data_folder_in": str(folder),
        "data_folder_out": str(folder),
        "control_folder": str(folder / "control"),
        "processed_folder": str(folder / "processed"),
    }


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[Any]:
    link = KombuConnection("filesystem://", options(tmp_path))
    with link.use():
        yield link.channel()
    link.close()


def test_kombus_own_channel_reads_what_is_written_and_the_other_way_round(
    channel: Any, tmp_path: Path
) -> None:
    with Connection("filesystem://", transport_options=options(tmp_path)) as other:
        kombus = other.default_channel
        for writer, reader in ((channel, kombus), (kombus, channel)):
            writer._put("celery", MESSAGE)
            assert [channel._size("celery"), kombus._size("celery")] == [1, 1]
            assert reader._get("celery") == MESSAGE
            writer._queue_bind("ex", writer.__module__, "", "q")
        assert channel.get_table("ex") == kombus.get_table("ex")
        assert len(channel.get_table("ex")) == 2


def test_a_file_that_is_not_written_yet_is_read_later(channel: Any, tmp_path: Path) -> None:
    with open(tmp_path / "1_x.celery.msg", "wb") as file:  # as kombu writes it
        with pytest.raises(Empty):
            channel._get("celery")
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Empty):
            channel._get("celery")
        channel._put("celery", {"body": "two"})
        assert channel._get("celery") == {"body": "two"}
        file.write(json.dumps(MESSAGE).encode())
    assert channel._get("celery") == MESSAGE


def test_an_empty_file_is_no_message_in_the_end(
    channel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1_x.celery.msg").touch()
    monkeypatch.setattr(file_channel, "EMPTY_S", 0)

    with pytest.raises(ValueError):
        channel._get("celery")
    with pytest.raises(Empty):
        channel._get("celery")


def test_a_message_has_its_name_when_it_is_complete(
    channel: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = list[str]()

    def rename(path: Path, target: Path) -> None:
        written.append(path.read_text())
        assert not [*tmp_path.glob("*.msg")]

    monkeypatch.setattr(Path, "rename", rename)
    channel._put("celery", MESSAGE)

    assert written == [json.dumps(MESSAGE)]


def test_a_message_has_one_reader(channel: Any, tmp_path: Path) -> None:
    for number in range(200):
        channel._put("celery", number)
    found = list[int]()

    def read() -> None:
        with Connection("filesystem://", transport_options=options(tmp_path)) as other:
            other.transport.Channel = file_channel.FileChannel
            own = other.channel()
            while own._size("celery"):
                try:
                    found.append(own._get("celery"))
                except Empty:
                    continue

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()

    assert sorted(found) == [*range(200)]


def test_processed_messages_are_kept_when_asked(channel: Any, tmp_path: Path) -> None:
    (tmp_path / "processed").mkdir()
    channel.store_processed = True
    channel._put("celery", MESSAGE)

    assert channel._get("celery") == MESSAGE
    assert len([*(tmp_path / "processed").iterdir()]) == 1


def test_a_table_that_is_not_written_yet_is_read_when_it_is(channel: Any, tmp_path: Path) -> None:
    channel._queue_bind("ex", "key", "", "q")
    table = tmp_path / "control" / "ex.exchange"
    text = table.read_text()
    table.write_text("")
    writer = threading.Timer(0.1, table.write_text, (text,))
    writer.start()

    assert [binding.queue for binding in channel.get_table("ex")] == ["q"]
    writer.join()
