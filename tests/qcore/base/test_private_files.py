"""What is kept on disk for one user is made and read as theirs alone."""

from __future__ import annotations

import gzip
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qcore import App
from qcore.base.private_files import NotPrivate, create, make_folder, read, replace
from qcore.events.recording import Recorder
from qcore.wire import pulse
from tests.support.processes import ROOT

is_root = os.geteuid() == 0
EVENT = {"type": "worker-online", "hostname": "w@h", "timestamp": 1.0}


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def qctl(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("QCTL_", "CELERY_", "XDG_"))}
    return subprocess.run(
        [sys.executable, "-m", "qctl", *words],
        cwd=ROOT,
        env={**env, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_folder_that_is_made_is_the_users_alone(no_umask: None, tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b" / "c")

    assert [mode_of(tmp_path / p) for p in ("a", "a/b", "a/b/c")] == [0o700] * 3


def test_without_a_umask_the_state_folders_are_the_users_alone(no_umask: None, tmp_path: Path) -> None:
    ran = qctl(tmp_path, "call", "a.b", "--no-check")

    assert ran.returncode == 0, ran.stderr
    made = [tmp_path / ".local", *(tmp_path / ".local").rglob("*")]
    assert len(made) > 2
    assert [str(p) for p in made if mode_of(p) & 0o077] == []


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_a_recording_of_events_is_the_users_alone(no_umask: None, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"events{suffix}"

    recorder = Recorder(str(path))
    recorder.write([EVENT], 1.0)
    recorder.close()

    assert mode_of(path) == 0o600
    assert path.stat().st_size > 0
    if suffix == ".gz":
        assert json.loads(gzip.decompress(path.read_bytes()))["hostname"] == "w@h"


def test_a_recording_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")

    with pytest.raises(FileExistsError):
        Recorder(str(tmp_path / "link"))

    assert not (tmp_path / "target").exists()


def test_a_database_made_through_a_dangling_link_is_the_users_alone(no_umask: None, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.db"
    (tmp_path / "link.db").symlink_to(target)
    app = App("linked", broker=f"sqlite:///{tmp_path}/link.db", set_as_current=False)

    app.send_task("a.b")
    app.close()

    assert mode_of(target) == 0o600


def test_a_link_in_place_of_a_state_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "w1.json").symlink_to(victim)

    replace(tmp_path / "w1.json", b"{}")

    assert victim.read_text() == "precious"
    assert not (tmp_path / "w1.json").is_symlink()
    with pytest.raises(FileExistsError):
        create(tmp_path / "w1.json")


@pytest.mark.parametrize(
    ("folder_mode", "file_mode", "is_trusted"),
    [
        (0o700, 0o600, True),
        (0o755, 0o644, True),
        (0o1777, 0o600, True),
        (0o777, 0o600, False),
        (0o700, 0o666, False),
        (0o1777, 0o602, False),
    ],
)
def test_a_file_is_read_only_where_nobody_else_could_have_written_it(
    tmp_path: Path, folder_mode: int, file_mode: int, is_trusted: bool
) -> None:
    path = tmp_path / "shared" / "w1.pid"
    path.parent.mkdir()
    path.write_text("1")
    path.chmod(file_mode)
    path.parent.chmod(folder_mode)

    if is_trusted:
        assert read(path) == (b"1", os.geteuid())
    else:
        with pytest.raises(NotPrivate, match="only you can write to"):
            read(path)


def poisoned(place: Path, proof: Path) -> Path:
    """What another user would put into a shared folder: options that run a command of theirs."""
    node = {
        "name": "w1@shared",
        "options": ["-A", "evil"],
        "pidfile": str(place / "w1.pid"),
        "logfile": str(place / "w1.log"),
        "workdir": str(place),
        "env": {"PYTHONPATH": str(place)},
    }
    (place / "evil.py").write_text(
        f"open({str(proof)!r}, 'w').close()\nfrom qcore import App\napp = App('e')\n"
    )
    (place / "w1.json").write_text(json.dumps(node))
    return place / "w1.json"


def test_multi_does_not_run_what_is_kept_in_a_folder_that_others_can_write_to(tmp_path: Path) -> None:
    place, proof = tmp_path / "shared", tmp_path / "proof"
    place.mkdir()
    poisoned(place, proof)
    place.chmod(0o777)

    ran = qctl(
        tmp_path, "multi", "restart", "w1", "--hostname=shared", f"--pidfile={place}/%n.pid", "-t", "5"
    )

    assert ran.returncode != 0
    assert "other users can write to" in ran.stderr
    assert not proof.exists()


@pytest.mark.skipif(not is_root, reason="only root can make a file of another user")
def test_multi_does_not_run_what_another_user_has_left(tmp_path: Path) -> None:
    place, proof = tmp_path / "shared", tmp_path / "proof"
    place.mkdir()
    os.chown(poisoned(place, proof), 65534, 65534)
    place.chmod(0o1777)

    ran = qctl(
        tmp_path, "multi", "restart", "w1", "--hostname=shared", f"--pidfile={place}/%n.pid", "-t", "5"
    )

    assert ran.returncode != 0
    assert "belongs to another user" in ran.stderr
    assert not proof.exists()


@pytest.mark.skipif(not is_root, reason="only root can make a link of another user")
def test_multi_does_not_write_a_log_through_a_link_of_another_user(tmp_path: Path) -> None:
    place, victim = tmp_path / "shared", tmp_path / "victim"
    place.mkdir(mode=0o1777)
    (place / "w1.log").symlink_to(victim)
    os.chown(place / "w1.log", 65534, 65534, follow_symlinks=False)

    ran = qctl(
        tmp_path,
        "-A",
        "examples.proj",
        "multi",
        "start",
        "w1",
        f"--pidfile={place}/%n.pid",
        f"--logfile={place}/%n.log",
    )

    assert ran.returncode != 0
    assert "another user made" in ran.stderr
    assert not victim.exists()


@pytest.mark.skipif(not is_root, reason="only root can make a folder of another user")
def test_pulses_in_a_folder_of_another_user_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    folder = tmp_path / "qctl"
    folder.mkdir()
    (folder / "forged.pulse").write_bytes(pulse.encode("w1@host", os.getpid(), 1.0))
    assert [p.node for p in pulse.read_all()] == ["w1@host"]

    os.chown(folder, 65534, 65534)

    assert pulse.read_all() == []
