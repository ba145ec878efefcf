"""Installed plug-ins whose entry points cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcore.base.plugins import entry_points_of


def test_entry_points_that_are_not_utf8_are_ignored_with_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = tmp_path / "good-1.0.dist-info", tmp_path / "bad-1.0.dist-info"
    for folder, name in ((good, "shelf"), (bad, "fäche")):
        folder.mkdir()
        (folder / "entry_points.txt").write_bytes(f"[qcore.brokers]\n{name} = m:A\n".encode("latin-1"))
    monkeypatch.syspath_prepend(str(tmp_path))

    found = entry_points_of("qcore.brokers")
    monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
    again = entry_points_of("qcore.brokers")

    assert found["shelf"].package == "good" and again == found
    assert [str(bad / "entry_points.txt") in record.getMessage() for record in caplog.records] == [True]
