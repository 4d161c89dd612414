"""The page of `mpfgvc demo` in Chromium: by keyboard alone, on a desktop, on a phone, and its errors."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.loopback_server import CLASSES, ColorModel, Running, photograph, running

from mpfgvc.data.samples import Sample
from mpfgvc.deploy.demo import DemoContent, add_demo
from mpfgvc.deploy.server.app import create_app
from mpfgvc.deploy.server.settings import Limits
from mpfgvc.inference.embeddings import EmbeddingIndex, EmbeddingTable

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
TOKEN = "a-token-for-tests"  # noqa: S105  # a token of nothing
SIZES = {"desktop": (1280, 900), "phone": (400, 850)}
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs Chromium, as {CHROMIUM}"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> DemoContent:
    """Two training photographs and two examples."""
    folder = tmp_path_factory.mktemp("content")
    samples, colors = [], [(250, 5, 5), (5, 250, 5), (240, 20, 0), (20, 240, 0)]
    for number, color in enumerate(colors):
        path = folder / f"{number}.png"
        path.write_bytes(photograph(color, size=(60, 40)))
        samples.append(Sample(path=path, label=number % 2, split="train" if number < 2 else "test"))
    table = EmbeddingTable(
        paths=tuple(str(sample.path) for sample in samples[:2]),
        labels=("red", "green"),
        splits=("train", "train"),
        values=np.array(colors[:2], dtype=np.float32),
    )
    return DemoContent(classes=CLASSES, trained=samples[:2], examples=samples[2:], index=EmbeddingIndex(table))


@pytest.fixture(scope="module")
def demo(content: DemoContent) -> Iterator[Running]:
    with running(app=app_of(content)) as started:
        yield started


@pytest.fixture(params=SIZES)
def page(browser: "playwright.Browser", request: pytest.FixtureRequest) -> Iterator["playwright.Page"]:
    """An empty page, which fails its test for any error in its console and any request to elsewhere."""
    width, height = SIZES[request.param]
    opened = browser.new_page(viewport={"width": width, "height": height})
    opened.set_default_timeout(15_000)
    # With a listener from the start, every chooser is caught. Without one, a chooser that opens between two
    # waits is a real dialog, which nobody can close, and the page opens no other one.
    opened.on("filechooser", lambda _: None)
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on(
        "request",
        lambda each: wrong.append(each.url) if "127.0.0.1" not in each.url and each.url.startswith("http") else None,
    )
    yield opened
    opened.close()
    assert wrong == []


def app_of(content: DemoContent, token: str | None = None) -> object:
    app = create_app(ColorModel(), limits=Limits(), token=token)
    add_demo(app, content)
    return app


def focus(page: "playwright.Page", selector: str) -> None:
    """Press Tab until the element has the focus, and check that the focus can be seen."""
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate(f"document.activeElement.matches({selector!r})"):
            outline = page.evaluate(
                "(() => { const found = document.activeElement;"
                "return getComputedStyle(found.closest('label') || found).outlineStyle; })()"
            )
            assert outline == "solid"
            return
    raise AssertionError(f"{selector} cannot be reached by the keyboard")


def choose(page: "playwright.Page", file: Path) -> None:
    """Open the chooser by Space and take a file. Headless Chromium may lose the key, so try five times."""
    for timeout in (4_000, 4_000, 4_000, 4_000, 15_000):
        try:
            with page.expect_file_chooser(timeout=timeout) as chooser:
                page.keyboard.press("Space")
        except playwright.TimeoutError:
            continue
        chooser.value.set_files(file)
        return
    raise AssertionError("Space opens no chooser")


def test_a_photograph_is_chosen_and_explained_by_keyboard_alone(
    page: "playwright.Page", demo: Running, tmp_path: Path
) -> None:
    file = tmp_path / "bird.png"
    file.write_bytes(photograph((250, 30, 10), size=(60, 40)))
    page.goto(demo.url)
    focus(page, "#file")
    choose(page, file)
    page.wait_for_selector("#similar:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "answer"
    assert page.locator("#answer").inner_text() == "red"
    rows = page.locator("#guesses li").all_inner_texts()
    assert [row.split("\n")[0] for row in rows[:3]] == ["red", "green", "blue"]
    assert page.locator("#caption").inner_text() == "The 2 of 6 patches that the model kept."
    assert page.locator("#why-title").inner_text() == "Why red and not green?"
    assert "1 clearly speak for red and 1 for green" in page.locator("#why-text").inner_text()
    for _ in range(40):
        page.keyboard.press("Shift+Tab")
        if page.evaluate("document.activeElement.name") == "view":
            break
    page.keyboard.press("ArrowRight")
    assert page.locator("input[name=view]:checked").get_attribute("value") == "why"
    frames = page.locator("#stage svg rect[stroke-dasharray]")
    assert [frame.get_attribute("stroke-dasharray") for frame in frames.all()] == ["none", "1.6 1.2"]
    alt = page.locator("#seen").get_attribute("alt")
    said = "+ in a solid frame speaks for red, − in a dashed frame for green."
    assert alt == f"The photograph as the model sees it. {said}"


def test_an_example_shows_its_true_class_and_its_neighbours(page: "playwright.Page", demo: Running) -> None:
    page.goto(demo.url)
    page.wait_for_selector("#examples button")
    focus(page, "#examples li:nth-child(2) button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#similar:not([hidden])")
    assert page.locator("#answer").inner_text() == "green"
    assert page.locator("#truth").inner_text() == "✓ right: the dataset says the same"
    assert page.locator("#examples button").nth(1).get_attribute("aria-pressed") == "true"
    found = page.locator("#similar figcaption").all_inner_texts()
    assert [text.split(",")[0] for text in found] == ["green", "red"]
    assert page.locator("#similar img").first.get_attribute("alt") == "Training photograph of green"


def test_nothing_is_wider_than_the_screen_and_every_picture_has_a_text(page: "playwright.Page", demo: Running) -> None:
    page.goto(demo.url)
    page.locator("#examples button").first.click()
    page.wait_for_selector("#similar:not([hidden])")
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every((image) => image.alt && image.naturalWidth > 0)")
    sizes = page.evaluate(
        "[...document.querySelectorAll('.button, #views label')].map((e) => e.offsetHeight).filter((e) => e)"
    )
    assert min(sizes) >= 32
    assert page.locator("#camera").get_attribute("capture") == "environment"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_a_contrast_of_at_least_four_and_a_half(page: "playwright.Page", demo: Running, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.goto(demo.url)
    page.locator("#examples button").first.click()
    page.wait_for_selector("#similar:not([hidden])")
    pairs = page.evaluate(
        """() => [...document.querySelectorAll('h1, h2, p, label, button, span, figcaption, footer')]
        .filter((e) => e.offsetHeight && e.textContent.trim()).map((e) => {
          let behind = e;
          while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)' && behind.parentElement)
            behind = behind.parentElement;
          const text = e.textContent.trim().slice(0, 30);
          return [text, getComputedStyle(e).color, getComputedStyle(behind).backgroundColor];
        })"""
    )
    assert len(pairs) > 15
    poor = [(text, *colors) for text, *colors in pairs if contrast(*colors) < 4.5]
    assert poor == []


def test_what_is_unsure_or_no_photograph_is_said_and_the_next_one_works(
    page: "playwright.Page", demo: Running, tmp_path: Path
) -> None:
    unsure = tmp_path / "unsure.png"
    unsure.write_bytes(photograph((116, 60, 20)))
    page.goto(demo.url)
    page.wait_for_selector("#examples button")
    page.locator("#file").set_input_files(unsure)
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("#answer").inner_text() == "unsure"
    assert "of such answers more than one in ten would be wrong" in page.locator("#sure").inner_text()
    assert page.locator("#guesses li").first.inner_text().startswith("red")
    broken = tmp_path / "notes.png"
    broken.write_bytes(b"no photograph")
    page.locator("#file").set_input_files(broken)
    page.wait_for_selector("#error:not([hidden])")
    assert "it is not an image of a known format" in page.locator("#error").inner_text()
    page.locator("#examples button").first.click()
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("#error").is_hidden()
    assert page.locator("#sure").is_hidden()


def test_a_photograph_can_be_dropped_and_an_address_is_refused(page: "playwright.Page", demo: Running) -> None:
    page.goto(demo.url)
    page.wait_for_selector("#examples button")
    event = "new DragEvent('drop', {dataTransfer: transfer, bubbles: true})"
    drop = f"(transfer) => document.body.dispatchEvent({event})"
    address = page.evaluate_handle("() => { const t = new DataTransfer(); t.setData('text/uri-list', 'x'); return t; }")
    page.evaluate(drop, address)
    assert "not its address" in page.locator("#error").inner_text()
    file = page.evaluate_handle(
        """async () => {
          const canvas = document.createElement('canvas'), transfer = new DataTransfer();
          canvas.getContext('2d').fillStyle = 'blue';
          canvas.getContext('2d').fillRect(0, 0, 300, 150);
          const content = await new Promise((done) => canvas.toBlob(done));
          transfer.items.add(new File([content], 'blue.png', {type: 'image/png'}));
          return transfer;
        }"""
    )
    page.evaluate(drop, file)
    page.wait_for_selector("#result:not([hidden])")
    assert page.locator("#answer").inner_text() == "blue"


def test_a_token_is_taken_from_the_address_or_asked_for(page: "playwright.Page", content: DemoContent) -> None:
    with running(app=app_of(content, TOKEN)) as started:
        page.goto(started.url)
        page.wait_for_selector("#key:not([hidden])")
        page.wait_for_selector("#error:has-text('needs a token')")
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        page.wait_for_selector("#examples button")
        assert page.locator("#key").is_hidden()
        page.goto("about:blank")
        page.goto(f"{started.url}/#token={TOKEN}")
        page.wait_for_selector("#examples button")


def test_the_page_of_routes_names_every_route_option_and_field(page: "playwright.Page", demo: Running) -> None:
    page.goto(f"{demo.url}/docs")
    page.wait_for_selector("h2")
    titles = page.locator("h2").all_inner_texts()
    described = demo.client.get("/openapi.json").json()
    assert titles == [f"{method.upper()} {path}" for path, ways in described["paths"].items() for method in ways]
    text = page.inner_text("main")
    for words in ("back_off", "Only these classes", "-F photograph=@photo.jpg", '"probability": number', "text/plain"):
        assert words in text
    assert "undefined" not in text
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def contrast(first: str, second: str) -> float:
    """WCAG's contrast ratio of two colors as a browser writes them."""
    dark, light = sorted(map(_luminance, (first, second)))
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    channels = [int(part) / 255 for part in color.removeprefix("rgb(").rstrip(")").split(",")[:3]]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
