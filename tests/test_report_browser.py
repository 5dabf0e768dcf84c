"""The report in a browser: it fits, reads well in light, dark and print, and asks nobody for anything."""

import json
import re
from pathlib import Path

import pytest

import gpuloan_mc
from gpuloan_mc.report.figures import Figures
from gpuloan_mc.report.page import PANELS, page

selenium = pytest.importorskip("selenium", reason="needs selenium: the test extra")
BROWSER, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
pytestmark = pytest.mark.skipif(
    not (BROWSER.exists() and DRIVER.exists()), reason="needs Debian's chromium and chromium-driver"
)

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage"
).split()

# contrast of every text against what lies behind it, as the browser computed both (WCAG 2)
CONTRAST = """
const light = c => { const v = c.map(x => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4 });
  return .2126 * v[0] + .7152 * v[1] + .0722 * v[2] };
const rgb = s => { const m = s.match(/[\\d.]+/g).map(Number); return m.length > 3 && m[3] === 0 ? null : m.slice(0, 3) };
const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c) return c }
  return [255, 255, 255] };
const found = [];
for (const e of document.querySelectorAll('body *')) {
  const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || !e.getClientRects().length || e.closest('title, desc')) continue;
  const style = getComputedStyle(e), ink = rgb(e instanceof SVGElement ? style.fill : style.color);
  const a = light(ink), b = light(behind(e));
  found.push([(Math.max(a, b) + .05) / (Math.min(a, b) + .05), e.tagName + ' ' + e.textContent.slice(0, 40)]);
}
return found.sort((x, y) => x[0] - y[0]).slice(0, 3).concat([[found.length, 'texts']]);
"""
OVERFLOW = """
const width = document.documentElement.clientWidth, out = [];
for (const e of document.querySelectorAll('body *')) {
  const box = e.getBoundingClientRect();
  if (box.width && !e.closest('.scroll') && (box.right > width + 1 || box.left < -1))
    out.push(`${e.tagName} ${e.textContent.slice(0, 40)} ${box.left} ${box.right}`);
}
return [document.documentElement.scrollWidth - width, out.slice(0, 5)];
"""
OUTSIDE_THE_DRAWING = """
const out = [];
for (const svg of document.querySelectorAll('svg')) {
  const all = svg.getBoundingClientRect();
  if (all.width) for (const e of svg.querySelectorAll('text')) {
    const box = e.getBoundingClientRect();
    if (box.right > all.right + 2 || box.left < all.left - 2 || box.bottom > all.bottom + 2 || box.top < all.top - 2)
      out.push(e.textContent);
  }
}
return out;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = str(BROWSER)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def file(tmp_path_factory, busy_run):
    """The page of the busy book with scenarios and sensitivities."""
    folder, book = tmp_path_factory.mktemp("page"), busy_run.portfolio
    gpuloan_mc.stress(book, book.market, ["no_feedback", "rival_chips"], n_paths=60).write(folder / "stress")
    ranges = [gpuloan_mc.sensitivity.Range("gpu.overhang.impact", 0.3, 2.5)]
    gpuloan_mc.sensitivities(book, book.market, ranges, n_paths=60).write(folder / "bumps")
    path = folder / "report.html"
    path.write_text(page(Figures.of(busy_run, [folder / "stress", folder / "bumps"], "neocloud-2024")), encoding="utf-8")
    return path


def opened(browser, file, width, media="screen", scheme="light"):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    browser.get(file.as_uri())
    browser.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")


VIEWS = [(360, "screen", "light"), (360, "screen", "dark"), (1280, "screen", "light"), (1280, "screen", "dark"),
         (680, "print", "light"), (680, "print", "dark")]  # fmt: skip


@pytest.mark.parametrize("width, media, scheme", VIEWS)
def test_the_page_fits_and_reads_well(browser, file, width, media, scheme):
    opened(browser, file, width, media, scheme)
    assert browser.execute_script("return document.querySelectorAll('section').length") == len(PANELS)
    beyond, where = browser.execute_script(OVERFLOW)
    assert (beyond, where) == (0, [])
    assert browser.execute_script(OUTSIDE_THE_DRAWING) == []
    *worst, count = browser.execute_script(CONTRAST)
    assert count[0] > 200
    assert worst[0][0] >= 4.5, worst
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('svg')].filter(s => s.getClientRects().length).length"
    )
    assert drawn * 2 == browser.execute_script("return document.querySelectorAll('svg').length")


def test_dark_mode_is_dark_and_paper_is_white(browser, file):
    def paper():
        return browser.execute_script("return getComputedStyle(document.querySelector('section')).backgroundColor")

    opened(browser, file, 1280, scheme="dark")
    assert max(map(int, re.findall(r"\d+", paper()))) < 60
    opened(browser, file, 1280, media="print", scheme="dark")
    assert paper() == "rgb(255, 255, 255)"


def test_no_request_no_script_no_dialog(browser, tmp_path, hostile_names, hostile_book):
    from selenium.common.exceptions import NoAlertPresentException

    world, portfolio = hostile_book(hostile_names)
    path = tmp_path / "hostile.html"
    run = gpuloan_mc.simulate(portfolio, world, n_paths=60)
    path.write_text(page(Figures.of(run)), encoding="utf-8")
    browser.get_log("performance")
    opened(browser, path, 1280)
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked == [path.as_uri()]
    assert browser.execute_script("return document.scripts.length") == 0
    with pytest.raises(NoAlertPresentException):
        _ = browser.switch_to.alert
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def test_the_policy_forbids_what_a_page_might_try(browser, file, tmp_path):
    text = file.read_text(encoding="utf-8")
    for attempt in (
        "<script>document.title='ran'</script>",
        "<p id=q style='position:fixed'>x</p>",
        "<style>body{margin:99px}</style>",
    ):
        path = tmp_path / "attempt.html"
        path.write_text(text.replace("</main>", f"{attempt}</main>"), encoding="utf-8")
        opened(browser, path, 1280)
        assert browser.title != "ran"
        assert browser.execute_script("return getComputedStyle(document.body).marginTop") == "0px"
        assert (
            browser.execute_script("const q = document.querySelector('#q'); return q && getComputedStyle(q).position")
            != "fixed"
        )
