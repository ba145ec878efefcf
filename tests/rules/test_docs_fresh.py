"""Man pages, completion files and docs/cli.md are those that `python -m qctl.manual` makes."""

from pathlib import Path

import pytest

from qctl import exit_codes, manual
from qctl.manual import files, stale


def test_generated_files_are_fresh() -> None:
    assert stale() == [], "run `python -m qctl.manual`"


def test_there_is_a_man_page_for_every_command() -> None:
    made = files()

    assert {"man/qctl.1", "man/qctl-call.1", "man/qctl-inspect-active.1"} <= made.keys()
    assert all(text.startswith(".TH ") for path, text in made.items() if path.startswith("man/"))


def test_no_page_has_a_mark_of_the_formatter_in_it() -> None:
    assert [path for path, text in files().items() if "\b" in text or "\\b\n" in text] == []


def test_outside_a_checkout_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(manual, "ROOT", tmp_path)

    assert manual.main([]) == exit_codes.USAGE

    assert list(tmp_path.iterdir()) == []
    assert "is not a checkout" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["wait", "watch"])
def test_what_waits_by_itself_takes_no_watch_option(name: str) -> None:
    assert "--watch" not in files()[f"man/qctl-{name}.1"].replace("\\-", "-")
