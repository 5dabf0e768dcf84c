"""What the documents show is what happens."""

import math
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import gpuloan_mc

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
SCENARIOS = ROOT / "docs" / "scenarios.md"
WATERFALL = ROOT / "docs" / "waterfall.md"
DECISIONS = ROOT / "docs" / "decisions-with-gpuloan.md"
REPORT = ROOT / "docs" / "report.md"
DOWNSTREAM = ROOT / "docs" / "downstream.md"
# -P and this path: the package under test, not whatever lies in the working directory
PYTHON = [sys.executable, "-P", "-W", "error"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(gpuloan_mc.__file__).parent.parent)}
COMMANDS = {"gpuloan-mc": [*PYTHON, "-m", "gpuloan_mc.cli"], "python": PYTHON}
LEFT_OUT = "..."
pytestmark = pytest.mark.usefixtures("machine_code")


def block(name):
    return re.search(rf"<!--\s*{name}\s*-->\s*```[a-z]*\n(.*?)```", README.read_text(), re.S)[1]


def test_the_readmes_example_prints_what_it_says():
    command = [*PYTHON, "-c", block("example")]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stderr == ""
    assert done.stdout == block("output")


@pytest.mark.parametrize("name", ["run", "test"])
def test_the_readme_has_its_two_commands(name):
    assert block(name).startswith("pip install")


def blocks(page):
    """(kind, argument, text) of each fenced block under a comment such as `<!-- file: a.csv -->`, in order."""
    found = re.findall(r"<!--\s*(\w+)(?::\s*(\S+))?\s*-->\s*```[a-z]*\n(.*?)```", page.read_text(), re.S)
    return [(kind, argument, text) for kind, argument, text in found]


def run(text, folder, code):
    """Outputs of the commands of a block, one a line."""
    shown = ""
    for line in text.splitlines():
        name, *arguments = shlex.split(line)
        command = [*COMMANDS.get(name, [name]), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, cwd=folder, timeout=300)
        assert done.returncode == code, (line, done.stdout, done.stderr)
        shown += done.stdout + done.stderr
    return shown


def printed(text):
    """Lines without trailing blanks, which a table pads and a page does not keep."""
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n").splitlines()


def agrees(shown, page):
    """Whether the lines of the page are what was shown; a line of three dots stands for any lines."""
    if LEFT_OUT not in page:
        return shown == page
    at = page.index(LEFT_OUT)
    if shown[:at] != page[:at]:
        return False
    rest = page[at + 1 :]
    return not rest or any(agrees(shown[i:], rest) for i in range(at, len(shown) + 1))


@pytest.mark.parametrize(
    "page, least, untold",
    [(TUTORIAL, 6, 0), (SCENARIOS, 10, 0), (DECISIONS, 6, 0), (WATERFALL, 2, 0), (DOWNSTREAM, 3, 0), (REPORT, 0, 0)],
    ids=["tutorial", "scenarios", "decisions", "waterfall", "downstream", "report"],
)
def test_a_page_gives_what_it_says(tmp_path, page, least, untold):
    found, shown, compared = blocks(page), "", 0
    for kind, argument, text in found:
        if kind == "file":
            (tmp_path / argument).write_text(text)
        elif kind == "run":
            shown = run(text, tmp_path, int(argument or 0))
        else:
            assert kind == "output"
            assert agrees(printed(shown), printed(text)), f"the page says\n{text}\nand the program\n{shown}"
            compared += 1
    assert compared >= least
    assert len(found) == page.read_text().count("\n```") // 2 - untold, "a block without its comment is not run"


def test_the_page_of_scenarios_lists_them_all():
    text = SCENARIOS.read_text()
    for name in gpuloan_mc.scenarios():
        assert f"| `{name}` | {gpuloan_mc.Scenario.read(name).content.about} |" in text


def test_three_dots_stand_for_any_lines():
    shown = ["a", "b", "c", "d"]
    for page in (["a", "b", "c", "d"], ["a", "...", "d"], ["...", "c", "..."], ["a", "b", "c", "d", "..."], ["..."]):
        assert agrees(shown, page)
    for page in (["a", "b", "c"], ["a", "...", "c"], ["b", "..."], ["...", "c", "b", "..."]):
        assert not agrees(shown, page)


@pytest.mark.parametrize("page", [README, *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name)
def test_links_between_pages_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_tutorials_sums_by_hand():
    text = " ".join(TUTORIAL.read_text().split())
    first, second = (balance * 0.45 * (1 - math.exp(-0.05 * years)) for balance, years in ((2e6, 3), (1e6, 2)))
    month = (0.046 + 0.065) / 12
    annuity = 16e6 * month / (1 - (1 + month) ** -36)
    income = 512 * 730 * (2.5 * 0.97 - 0.52)
    for figure in (first, second, first + second, annuity, income):
        assert f"{figure:,.0f}" in text
    shown = "\n".join(text for kind, _, text in blocks(TUTORIAL) if kind == "output")
    mean, error = re.search(r"The run says ([\d,]+) ± ([\d,]+)", text).groups()
    assert f"{mean} │" in shown
    assert f"± {error} │" in shown
    distance = (float(mean.replace(",", "")) - first - second) / float(error.replace(",", ""))
    assert f"{distance:.1f} standard errors away" in text
    before, after = map(float, re.search(r"expected_loss +([\d,.]+) +([\d,.]+)", shown.replace(",", "")).groups())
    assert f"falls by {1 - after / before:.0%}".replace("%", " %") in text
