"""Man pages, completion files and docs/cli.md are those that `python -m qctl.manual` makes."""

from qctl.manual import files, stale


def test_generated_files_are_fresh() -> None:
    assert stale() == [], "run `python -m qctl.manual`"


def test_there_is_a_man_page_for_every_command() -> None:
    made = files()

    assert {"man/qctl.1", "man/qctl-call.1", "man/qctl-inspect-active.1"} <= made.keys()
    assert all(text.startswith(".TH ") for path, text in made.items() if path.startswith("man/"))
