"""Pages in headless Chromium: `make test-browser`."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_tools.console import Terminal
from firmware_tools.report import mutate, page, prompts, regress
from firmware_tools.report.page import Frames, Section

selenium = pytest.importorskip("selenium")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select, WebDriverWait  # noqa: E402

pytestmark = pytest.mark.browser

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415408d763f8cfc000000301010018dd8db00000000049454e44ae426082"
)
CANVASES = """
const found = [];
const walk = (root) => {
  for (const one of root.querySelectorAll("*")) {
    if (one.tagName === "CANVAS") found.push(one);
    if (one.shadowRoot) walk(one.shadowRoot);
  }
};
walk(document);
"""
COLOURS = (
    CANVASES
    + """
return Array.from(document.querySelectorAll("figure"), (figure) => {
  const box = figure.getBoundingClientRect();
  const rows = Array(10).fill(0);
  for (const canvas of found) {
    const own = canvas.getBoundingClientRect();
    if (own.top < box.top || own.bottom > box.bottom || !canvas.width) continue;
    const [width, height] = [Math.floor(0.6 * canvas.width), Math.floor(0.7 * canvas.height)];
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    for (let k = 0; k < data.length; k += 4) {
      const [red, green, blue] = data.subarray(k, k + 3);
      const row = Math.floor((10 * Math.floor(k / 4 / width)) / height);
      rows[row] += Math.max(red, green, blue) - Math.min(red, green, blue) > 30;
    }
  }
  return rows;
});
"""
)
"""Of each figure how many pixels are coloured, in ten stripes from top to bottom.

Axes are grey; legends and colour bars lie outside.
"""
MODELS = (
    "return Bokeh.documents.map((d) => d.get_model_by_id(arguments[0])).find((m) => m !== null)"
)


class Browser:
    """A page that is open."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: str) -> None:
        self.driver.get(Path(path).resolve().as_uri())
        self.until("return document.documentElement.dataset.ready === 'yes'")

    def until(self, script: str, *arguments: object) -> Any:
        return WebDriverWait(self.driver, 20).until(
            lambda driver: driver.execute_script(script, *arguments)
        )

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def find(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements(By.CSS_SELECTOR, selector))

    def check(self) -> list[list[int]]:
        """Charts are painted, nothing was loaded, nobody complained; returns what is coloured."""
        n_figures = len(self.all("figure"))
        self.until("return Bokeh.documents.every((d) => d.is_idle)")
        colours = self.until(
            f"const all = (() => {{ {COLOURS} }})();"
            "return all.every((rows) => Math.max(...rows) > 5) && all"
        )
        assert len(colours) == n_figures > 0
        assert self.run("return performance.getEntriesByType('resource').map((e) => e.name)") == []
        assert self.complaints() == []
        return list(colours)

    def complaints(self) -> list[str]:
        """Of the console; that reading a canvas back is slow is for tests only."""
        return [
            line["message"]
            for line in self.driver.get_log("browser")
            if line["level"] not in ("INFO", "DEBUG")
            and "willReadFrequently" not in line["message"]
        ]

    def tab_stops(self) -> list[Any]:
        """What the Tab key reaches, in order."""
        stops = []
        body = self.find("body")
        self.run("document.activeElement.blur(); window.scrollTo(0, 0)")
        body.send_keys(Keys.TAB)
        while (one := self.driver.switch_to.active_element).tag_name != "body" and (
            one not in stops[:1]
        ):
            stops.append(one)
            one.send_keys(Keys.TAB)
        return stops


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not chromedriver:
        pytest.fail("chromium is missing; on Debian: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("headless=new", "no-sandbox", "window-size=1200,1000", "disable-gpu"):
        options.add_argument(f"--{argument}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(chromedriver))
    yield driver
    driver.quit()


@pytest.fixture
def browser(driver: Any) -> Browser:
    return Browser(driver)


def test_run(kenyon, pair, browser: Browser) -> None:
    assert kenyon("run", pair, "--report", "run.html").exit_code == 0
    browser.open("run.html")
    browser.check()

    # Choosing a neuron changes both charts.
    select = browser.find("select[data-charts]")
    pairs = browser.run("return JSON.parse(arguments[0].dataset.charts)", select)
    names = f"const source = (() => {{ {MODELS} }})(); return source.data"
    Select(select).deselect_all()
    Select(select).select_by_value("n2")
    for store, source in pairs:
        shown = browser.run(names, source)
        assert shown["name"] == ["neuron 2 (population 1, 0)"]
        column = f"const s = (() => {{ {MODELS} }})(); return Array.from(s.get_column('n2'))"
        assert shown["ys"] == [browser.run(column, store)]
    Select(select).select_by_value("n0")
    assert len(browser.run(names, pairs[0][1])["ys"]) == 2

    # The numbers zoom all charts over time, and back.
    controls = browser.find("[data-range]")
    range_id = controls.get_attribute("data-range")
    ends = f"const r = (() => {{ {MODELS} }})(); return [r.start, r.end]"
    begin, _ = controls.find_elements(By.TAG_NAME, "input")
    begin.clear()
    begin.send_keys("20", Keys.TAB)
    assert browser.run(ends, range_id) == [20, 49.5]
    controls.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert browser.run(ends, range_id) == [-0.5, 49.5]
    assert begin.get_attribute("value") == "0"
    assert browser.complaints() == []


def test_choosing_repaints(kenyon, pair, browser: Browser) -> None:
    assert kenyon("run", pair, "--report", "run.html").exit_code == 0
    browser.open("run.html")
    browser.check()
    pictures = (
        CANVASES
        + """
return Array.from(document.querySelectorAll("figure"), (figure) => {
  const box = figure.getBoundingClientRect();
  const within = (own) => own.top >= box.top && own.bottom <= box.bottom;
  return found.filter((c) => within(c.getBoundingClientRect())).map((c) => c.toDataURL()).join();
});
"""
    )
    before = browser.run(pictures)
    select = Select(browser.find("select[data-charts]"))
    select.deselect_all()
    select.select_by_value("n3")
    # Raster, rates, membranes, currents, clocks, and clocks against slots.
    changes = f"""
const now = (() => {{ {pictures} }})();
const changed = now.map((one, k) => one !== arguments[0][k]);
return changed[2] && changed[3] && changed;
"""
    assert browser.until(changes, before) == [False, False, True, True, False, False]


def test_many_spikes(kenyon, tonic, browser: Browser) -> None:
    """Only the first neurons fire: they are at the top of the map, as they are in a raster."""
    neuron = {"rest": 128, "threshold": 200, "reset": 128, "a": 1, "b": 1}
    session = [{"steps": 20_000, "bias": [[k, 100] for k in range(30)]}]
    path = tonic(populations=[100], neurons=[neuron] * 100, session=session)
    assert kenyon("run", path, "--report", "run.html").exit_code == 0
    browser.open("run.html")
    raster, *_ = browser.check()
    assert "drawn one by one" in browser.find("figcaption").text
    assert min(raster[:3]) > 1000
    assert max(raster[5:]) == 0


def test_mars(kenyon, quantised, pictures, browser: Browser) -> None:
    words = ("infer", quantised(), "--input", pictures, "--backend", "model", "-c", "mars-tiny")
    assert kenyon(*words, "--report", "i.html").exit_code == 0
    browser.open("i.html")
    browser.check()


@pytest.mark.parametrize("kind", ["regression", "campaign"])
def test_filters(kind: str, browser: Browser, request: pytest.FixtureRequest) -> None:
    values = request.getfixturevalue(kind)
    sections = {"regression": regress, "campaign": mutate}[kind].sections(values)
    page.write(Path("page.html"), kind, sections, Terminal(json=False))
    browser.open("page.html")
    browser.check()
    rows = "document.querySelectorAll('[id^=table] tbody tr')"
    shown = f"return Array.from({rows}).filter((row) => !row.hidden).length"
    whole = browser.run(shown)
    assert whole == len(values["outcomes"])
    first, *_ = browser.all("[data-table] select")
    Select(first).select_by_visible_text("failed" if kind == "regression" else "survived")
    assert browser.run(shown) == 1
    assert browser.find("[data-table] output").text == f"1 of {whole} rows"
    Select(first).select_by_visible_text("all")
    browser.find("[data-table] input").send_keys("STEP 3" if kind == "regression" else "never READ")
    assert browser.run(shown) == 1


def test_attention(browser: Browser, condensation, attention) -> None:
    """Both maps of a block are painted beside each other."""
    sections = prompts.sections(condensation, [("prompts", 2.0), ("condensed", 1.0)], attention)
    page.write(Path("page.html"), "prompts", sections, Terminal(json=False))
    browser.open("page.html")
    browser.check()
    captions = [one.text for one in browser.all("figure figcaption")]
    figure = browser.all("figure")[next(k for k, t in enumerate(captions) if t.startswith("Block"))]
    left, right = browser.run(
        CANVASES
        + """
        const box = arguments[0].getBoundingClientRect();
        const own = found.map((c) => c.getBoundingClientRect()).filter(
          (c) => c.top >= box.top && c.bottom <= box.bottom && c.width > 200);
        return [Math.min(...own.map((c) => c.left)), Math.max(...own.map((c) => c.left))]
          .map((x) => x - box.left);
        """,
        figure,
    )
    assert left < 100
    assert right > 400


def test_frames(browser: Browser) -> None:
    film = Frames("A film", [PIXEL, PIXEL], ["turns left", "turns right"])
    page.write(Path("page.html"), "t", [Section("s", [film])], Terminal(json=False))
    browser.open("page.html")
    picture = browser.find("figure img")
    assert picture.get_attribute("alt") == "turns left"
    assert browser.run("return arguments[0].naturalWidth", picture) == 1
    browser.find("[data-images] input").send_keys(Keys.RIGHT)
    assert picture.get_attribute("alt") == browser.find("output").text == "turns right"


def test_keyboard_reaches_everything(kenyon, pair, browser: Browser) -> None:
    assert kenyon("run", pair, "--report", "run.html").exit_code == 0
    browser.open("run.html")
    stops = browser.tab_stops()
    wanted = browser.all("nav a, main input, main select, main button, main .scroll")
    assert len(wanted) > 10
    assert [one for one in wanted if one not in stops] == []
    order = [stops.index(one) for one in wanted]
    assert order[:6] == sorted(order[:6]) == list(range(6))
    link = browser.find("nav a[href$='section-3']")
    link.send_keys(Keys.ENTER)
    browser.until("return window.scrollY > 100")


def test_dark(kenyon, pair, browser: Browser) -> None:
    assert kenyon("run", pair, "--report", "run.html").exit_code == 0
    models = "Array.from(Bokeh.documents[0]._all_models.values())"
    colour = f"return {models}.find((m) => /Axis/.test(m.type)).axis_label_text_color"
    seen = []
    for scheme in ("light", "dark"):
        browser.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        browser.open("run.html")
        browser.check()
        seen.append(browser.run(colour))
    assert seen == ["#1c1c1c", "#e6e6e6"]
