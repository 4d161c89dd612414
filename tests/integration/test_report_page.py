"""The page of a report in Chromium: sorting, zoom, filter, by keyboard alone, at two widths, on its own."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from mpfgvc.data.samples import Sample
from mpfgvc.evaluation.metrics import Evaluation, SourceMetrics
from mpfgvc.evaluation.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SIZES = {"desktop": (1280, 900), "phone": (390, 850)}
pytestmark = pytest.mark.browser
CLASSES = ("auk", "arctic tern", "common tern", "</script>wren", "finch")
TRUE = [0] * 6 + [1] * 6 + [2] * 6 + [3] * 6
GUESS = [0] * 6 + [1, 1, 1, 2, 2, 2] + [2, 2, 2, 2, 1, 1] + [3, 3, 3, 3, 3, 0]


class Coloured:
    """Draws every photograph in one colour, but not the last, which cannot be read."""

    root = Path("/set")
    samples: tuple[Sample, ...] = ()

    def plain(self, path: str) -> Image.Image | None:
        number = int(Path(path).stem)
        return None if number == 23 else Image.new("RGB", (40, 30), (10 * number, 90, 160))

    kept = plain


def evaluation_of(true: list[int], guess: list[int], classes: tuple[str, ...]) -> Evaluation:
    labels, guesses = np.array(true), np.array(guess)
    probability = np.linspace(0.5, 0.99, len(true)).round(3)
    truth = np.where(labels == guesses, probability, 0.01)
    rows = np.stack([guesses, 1 + (labels != guesses), probability, truth], axis=1)
    return Evaluation(
        split="test",
        paths=tuple(f"/set/{classes[label][:3]}/{number}.jpg" for number, label in enumerate(true)),
        classes=classes,
        sources={"fusion": SourceMetrics.of(rows, labels, len(classes))},
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(evaluation_of(TRUE, GUESS, CLASSES), folder, photos=Coloured())  # type: ignore[arg-type]
    return folder


@pytest.fixture(params=SIZES)
def page(browser: "Browser", report: Path, request: pytest.FixtureRequest) -> Iterator["Page"]:
    """The report, whose test fails for any error in its console and any request to elsewhere."""
    width, height = SIZES[request.param]
    opened = browser.new_page(viewport={"width": width, "height": height})
    opened.set_default_timeout(15_000)
    address, wrong = (report / "index.html").as_uri(), list[str]()
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda each: None if each.url.startswith((address, "data:")) else wrong.append(each.url))
    opened.goto(address)
    yield opened
    opened.close()
    assert wrong == []


def focus(page: "Page", selector: str) -> None:
    """Press Tab until the element has the focus, and check that the focus can be seen."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(f"document.activeElement.matches({selector!r})"):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    raise AssertionError(f"{selector} cannot be reached by the keyboard")


def first_column(page: "Page") -> list[str]:
    return page.locator("#class-table tbody tr:not([hidden]) td:first-child").all_inner_texts()


def captions(page: "Page", part: str) -> list[str]:
    texts = page.locator(f"{part} figcaption").all_inner_texts()
    return [" ".join(text.split()) for text in texts]  # no-break spaces, too


def test_nothing_is_wider_than_the_screen(page: "Page") -> None:
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0


def test_headings_sort_the_classes_up_and_down_and_empty_cells_last(page: "Page") -> None:
    focus(page, "#class-table th:nth-child(3) button")
    page.keyboard.press("Enter")
    assert first_column(page) == ["arctic tern", "common tern", "</script>wren", "auk", "finch"]
    page.keyboard.press("Space")
    assert first_column(page)[:2] == ["auk", "</script>wren"]
    assert first_column(page)[-1] == "finch"
    assert page.locator("#class-table th:nth-child(3)").get_attribute("aria-sort") == "descending"


def test_the_filter_keeps_what_has_to_do_with_a_class(page: "Page") -> None:
    assert len(captions(page, "#wrong-list")) == 6
    focus(page, "#filter")
    page.keyboard.type("WREN")
    assert first_column(page) == ["</script>wren"]
    assert captions(page, "#wrong-list") == ["auk 99 % is </script>wren, 1 %, rank 2"]
    assert page.locator("#filtered").inner_text() == "1 of 5 classes"
    assert page.locator("article.pair:visible").count() == 1
    focus(page, "#clear")
    page.keyboard.press("Enter")
    assert len(first_column(page)) == 5


def test_the_name_of_a_class_filters_and_another_name_may_hold_it(page: "Page") -> None:
    page.locator(".pick", has_text="arctic tern").click()
    assert first_column(page) == ["arctic tern"]
    assert len(captions(page, "#wrong-list")) == 5
    page.locator("#filter").fill("finch")
    assert page.locator("#pairs .nothing").is_visible()
    assert page.locator("#wrong-count").inner_text() == "0 of 0 shown"


def test_the_matrix_is_read_and_followed_by_keyboard_alone(page: "Page") -> None:
    focus(page, "#matrix")
    assert page.locator("#cell").inner_text() == "arctic tern, taken for common tern: 3 of 6 photographs"
    assert page.locator("#matrix text:not(.count)").count() == 10, "the names, on both sides"
    for key in ("n", "n", "p"):
        page.keyboard.press(key)
    assert page.locator("#cell").inner_text() == "common tern, taken for arctic tern: 2 of 6 photographs"
    page.keyboard.press("Enter")
    assert len(captions(page, "#wrong-list")) == 2
    assert page.locator("#filtered").inner_text() == "common tern taken for arctic tern"


def test_a_click_takes_a_cell_and_its_photographs_are_a_button_away(page: "Page") -> None:
    page.locator("#named").uncheck()
    page.locator("#matrix rect.wrong").last.click()
    assert page.locator("#cell").inner_text() == "</script>wren, taken for auk: 1 of 6 photographs"
    page.locator("#cell-photos").click()
    assert captions(page, "#wrong-list") == ["auk 99 % is </script>wren, 1 %, rank 2"]
    assert page.locator("#wrong-list .none").count() == 1  # it cannot be read
    assert "1 could not be read again" in page.locator("#wrong").inner_text()


def test_photographs_are_in_the_page(page: "Page") -> None:
    loaded = "[...document.querySelectorAll('.photos img')].every((image) => image.complete && image.naturalWidth > 0)"
    page.wait_for_function(loaded)
    assert page.locator("#pairs img").count() >= 6
    assert page.locator("#suspect-list img").count() == 5


def test_a_photograph_is_enlarged_by_a_click_or_by_enter_and_closed_by_escape(page: "Page") -> None:
    small = page.locator("#suspect-list img").first
    small.click()
    assert page.locator("#large img").bounding_box()["width"] > 1.5 * small.bounding_box()["width"]  # type: ignore[index]
    assert "tern/" in page.locator("#large p").inner_text() or "com/" in page.locator("#large p").inner_text()
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()
    page.locator("#pairs img").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#large").is_visible()
