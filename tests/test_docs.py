"""What the documents show is what happens."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gpuloan_mc

README = Path(__file__).parent.parent / "README.md"


def block(name):
    return re.search(rf"<!--\s*{name}\s*-->\s*```[a-z]*\n(.*?)```", README.read_text(), re.S)[1]


def test_the_readmes_example_prints_what_it_says():
    # -P and this path: the package under test, not whatever lies in the working directory
    environment = os.environ | {"PYTHONPATH": str(Path(gpuloan_mc.__file__).parent.parent)}
    command = [sys.executable, "-P", "-W", "error", "-c", block("example")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stderr == ""
    assert done.stdout == block("output")


@pytest.mark.parametrize("name", ["run", "test"])
def test_the_readme_has_its_two_commands(name):
    assert block(name).startswith("pip install")
