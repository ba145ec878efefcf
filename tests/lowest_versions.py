"""Print the lowest version of each dependency that pyproject.toml allows, as constraints for pip."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
for requirement in project["dependencies"]:
    found = re.match(r"([\w-]+)>=([\w.]+)", requirement)
    assert found, f"{requirement} has no lower bound"
    print(f"{found[1]}=={found[2]}")
