"""A task keeps the signature of its function for type checkers."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

from mypy import api

from qcore import AsyncResult, Task
from qcore.base import keywords
from qcore.tasks import typed

CASES = Path(__file__).parent / "typing_cases"
ROOT = Path(__file__).parents[3]


def test_type_checkers_know_the_arguments_and_the_value_of_a_task() -> None:
    # With what `make types` has found out about the packages already, where it ran.
    known = ("--platform", "linux", "--cache-dir", str(ROOT / ".mypy_cache/linux"))
    out, err, _ = api.run(["--strict", *known, str(CASES / "right.py"), str(CASES / "wrong.py")])

    assert not err
    found = re.findall(r"^(\S+?):(\d+): error: ", out, re.M)
    assert {(Path(path).name, int(line)) for path, line in found} == mistakes(), out


def test_pyright_knows_them_too(tmp_path: Path) -> None:
    """By basedpyright, which is pyright with its Node.js in a wheel."""
    config = {"include": [str(CASES)], "typeCheckingMode": "standard", "extraPaths": [str(ROOT)]}
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    words = ["basedpyright", "-p", str(tmp_path), "--pythonpath", sys.executable, "--outputjson"]

    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=500)

    found = json.loads(done.stdout)["generalDiagnostics"]
    places = {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in found}
    assert places == mistakes(), found


def mistakes() -> set[tuple[str, int]]:
    lines = (CASES / "wrong.py").read_text().splitlines()
    return {("wrong.py", number) for number, line in enumerate(lines, 1) if line.endswith("# error")}


def _declared(name: str) -> set[str]:
    """The options of a TypedDict of typed.py, which exist for type checkers only."""
    tree = ast.parse((Path(typed.__file__)).read_text())
    classes = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found: set[str] = set()
    for base in classes[name].bases:
        if isinstance(base, ast.Name) and base.id in classes:
            found |= _declared(base.id)
    return found | {
        line.target.id
        for line in classes[name].body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }


def test_type_checkers_know_the_options_of_a_call_that_exist() -> None:
    known = keywords.CALL | keywords.CALL_OF_CELERY

    assert _declared("CallOptions") == known - {"args", "kwargs"}


def test_type_checkers_know_the_options_of_a_task_that_exist() -> None:
    apart = {"bind", "base", "filter", "pydantic"}  # the type of the task depends on them
    attributes = {name for name in Task.__annotations__ if not name.startswith(("_", "is_", "overrides_"))}

    assert _declared("PydanticTaskOptions") | apart == attributes | keywords.TASK


def test_generic_classes_can_be_written_with_their_parameters_at_run_time() -> None:
    class Doubled(Task[[int], int]):
        name = "doubled"

        def run(self, x: int) -> int:
            return 2 * x

    assert Doubled()(2) == 4
    assert AsyncResult[int]("an-id").id == "an-id"
