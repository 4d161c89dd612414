"""The doctor's page in Chromium: filters by keyboard, on a desktop and on a phone."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from mpfgvc.config import DataConfig
from mpfgvc.data.doctor import check, dataset_to_check
from mpfgvc.data.doctor_page import doctor_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a dataset with a leak, a duplicate and a photograph of one colour."""
    root = tmp_path_factory.mktemp("data")
    for split, count in (("train", 3), ("test", 1)):
        for label, name in enumerate(('crow & "jay"', "tern")):
            for number in range(count):
                path = root / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                seed = 100 * label + 10 * number + count
                pixels = np.random.default_rng(seed).integers(0, 256, (70, 80, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(path)
    shutil.copy(root / "train" / "tern" / "0.png", root / "test" / "tern" / "leak.png")
    crow = root / "train" / 'crow & "jay"'
    shutil.copy(crow / "1.png", crow / "again.png")
    Image.new("RGB", (80, 70), (9, 9, 9)).save(crow / "black.png")
    dataset = dataset_to_check(DataConfig(root=str(root), validation=0), seed=0)
    page = tmp_path_factory.mktemp("page") / "page.html"
    page.write_text(doctor_page(check(dataset), dataset))
    return page.as_uri()


@pytest.fixture(
    params=[
        pytest.param((1280, 900), id="desktop"),  # the one page that `make test` opens
        pytest.param((390, 844), id="phone", marks=pytest.mark.browser),
    ]
)
def page(browser: "Browser", address: str, request: pytest.FixtureRequest) -> Iterator["Page"]:
    """The page, opened; it fails its test for any error in its console and any request to elsewhere."""
    width, height = request.param
    opened = browser.new_page(viewport={"width": width, "height": height})
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda each: wrong.append(each.url) if each.url.startswith("http") else None)
    opened.goto(address)
    yield opened
    opened.close()
    assert wrong == []


def visible(page: "Page") -> list[str]:
    """The kinds of the findings that are shown."""
    return [each.get_attribute("data-kind") for each in page.locator(".finding:visible").all()]


def test_findings_are_shown_in_pairs_and_fit_the_width(page: "Page") -> None:
    assert visible(page) == ["in two splits", "duplicate", "no contrast"]
    assert page.locator(".finding:first-child img").count() == 2
    loaded = "[...document.images].every(image => { image.loading = 'eager'; return true; })"
    assert page.evaluate(loaded)
    page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_kinds_and_classes_are_chosen_by_the_keyboard(page: "Page") -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.show") == "in two splits"
    page.keyboard.press("Enter")
    assert visible(page) == ["in two splits"]
    assert page.locator("#shown").inner_text() == "1 of 3 shown"
    page.keyboard.press("Home")  # the choice of kinds has the focus now; its first entry is all kinds
    page.wait_for_function("document.getElementById('kind').value === ''")
    page.keyboard.press("Tab")
    page.keyboard.press("End")
    page.wait_for_function("document.getElementById('class').value === 'tern'")
    assert visible(page) == ["in two splits"]
    page.keyboard.press("ArrowUp")
    page.wait_for_function("document.getElementById('class').value.startsWith('crow')")
    assert visible(page) == ["duplicate", "no contrast"]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert len(visible(page)) == 3
