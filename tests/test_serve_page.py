"""The page of `search serve` in a browser; skipped where there is none, or no Playwright."""

import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import uvicorn

from icre.gallery import changes
from icre.gallery.filters import Filter
from icre.utils.errors import UserError
from small_service import READ, TOKENS, make_gallery, picture, serving
from test_serve import calibrate, until

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium on this machine to open the page with"
    ),
]


@pytest.fixture(scope="module")
def browser():
    options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with playwright.sync_playwright() as tools:
        opened = tools.chromium.launch(executable_path=CHROMIUM, args=options)
        yield opened
        opened.close()


@pytest.fixture
def site(tmp_path) -> Iterator[tuple[str, Path]]:
    """Address and gallery of a service with tokens; a request has at most 200 KB."""
    gallery = make_gallery(tmp_path / "images")
    calibrate(gallery)
    with serving(gallery, tokens=TOKENS, bytes=200_000) as client, socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(client.service.app(), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started, 30)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/", gallery
        server.should_exit = True
        thread.join()


@pytest.fixture
def page(browser, site):
    """The page in a phone's window; it must complain of nothing and ask no other host."""
    opened = browser.new_page(viewport={"width": 390, "height": 800})
    hosts, complaints = set(), []
    opened.on("request", lambda request: hosts.add(request.url.split("/")[2]))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda line: complaints.append(line.text))
    opened.goto(site[0])
    opened.set_default_timeout(10_000)
    yield opened
    assert {host for host in hosts if host} <= {site[0].split("/")[2]}  # a blob has no host
    # Chromium reports a status above 399 by itself
    assert [text for text in complaints if "Failed to load resource" not in text] == []
    opened.close()


def enter(page, token: str = READ) -> None:
    page.get_by_label("Token").fill(token)
    page.keyboard.press("Enter")


def choose(page, *seeds: int) -> None:
    files = [
        {"name": f"<b>{seed}.png", "mimeType": "image/png", "buffer": picture(seed)}
        for seed in seeds
    ]
    page.locator("#files").set_input_files(files)


def search(page) -> None:
    page.get_by_role("button", name="Search").click()


def test_search_and_filter(page, site):
    enter(page)
    page.get_by_text("12 images, 2026-11-01 to 2026-11-12").wait_for()
    choose(page, 4, 999)
    search(page)
    page.locator("section").nth(1).wait_for()
    first = page.locator("section").first
    assert first.locator("h2 b").inner_text() == "here"
    caption = first.locator("li").first.inner_text()
    assert " ".join(caption.split()) == "#1 1.000 person 1 visible, cam 1 2026-11-05 12:00:00 UTC"
    assert page.locator("section li").count() == 20
    assert first.get_by_text("<b>4.png").count() == 1  # a name is text
    until(lambda: page.evaluate("[...document.images].every((one) => one.naturalWidth > 0)"))
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.get_by_text("Filters").click()
    page.get_by_label("2", exact=True).check()
    page.get_by_label("Before (UTC)").fill("2026-11-08T00:00")
    search(page)
    until(lambda: page.locator("section").first.locator("li").count() == 2)
    assert all("cam 2" in text for text in page.locator("section li").all_inner_texts())


def test_not_here(page):
    enter(page)
    page.get_by_label("False alarms").wait_for()
    choose(page, 12345)
    page.get_by_label("False alarms").select_option("0.05")
    search(page)
    page.get_by_text("not above").wait_for()
    assert page.locator("h2 b").inner_text() == "not here"
    assert page.locator("li.refused").count() == 10


def test_by_the_keyboard_alone(page):
    enter(page)
    page.get_by_text("12 images").wait_for()
    choose(page, 3)
    page.locator("#files").focus()
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
        if reached[-1] == "go":
            break
    assert {"modality", "top", "far", "go"} <= set(reached)
    page.keyboard.press("Enter")
    page.locator("section li").first.wait_for()


def test_wrong_token(page):
    page.get_by_text("enter a token").wait_for()
    enter(page, "x" * 32)
    page.get_by_text("this token is not known").wait_for()
    enter(page)
    page.get_by_text("12 images").wait_for()
    assert not page.get_by_label("Token").is_visible()
    assert READ not in page.content()


def test_oversized_and_broken_files(page):
    enter(page)
    page.get_by_text("12 images").wait_for()
    page.locator("#files").set_input_files(
        [{"name": "large.jpg", "mimeType": "image/jpeg", "buffer": b"x" * 300_000}]
    )
    search(page)
    page.get_by_text("too large: at most 0.2 MB").wait_for()
    page.get_by_role("button", name="Remove large.jpg").click()
    page.locator("#files").set_input_files(
        [{"name": "text.jpg", "mimeType": "image/jpeg", "buffer": b"no image"}]
    )
    search(page)
    page.get_by_text("image 1: cannot read the image").wait_for()
    assert page.locator("section").count() == 0


def test_a_gallery_that_changes_under_the_page(page, site):
    enter(page)
    page.get_by_text("12 images").wait_for()
    choose(page, 4)
    page.route("**/v1/images/**", lambda route: (_remove(site[1]), route.continue_()))
    search(page)
    page.get_by_text("the gallery has changed: search again").first.wait_for()


def _remove(gallery: Path) -> None:
    with suppress(UserError):  # it is done already
        changes.remove(gallery, Filter(identity=("person 1",)))
