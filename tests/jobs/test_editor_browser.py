"""Editor and job pages in a real browser against the whole product: keys, no script, axe, phone."""

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.chromium import launched, needs_chromium
from tests.product import Product
from tests.stack import PROJECT

pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    needs_chromium,
]
# Marks, log lines and heat cells are small on purpose; each has an equal elsewhere.
AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
SECOND = 1000


@pytest.fixture(scope="module")
def product():
    with Product(agents=1) as product:
        yield product


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def signed_in(product, browser):
    """The cookies of a browser that used the first sign-in link and has started the job hello."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(product.sign_in_url)
    page.get_by_role("button", name="Sign in as admin").click()
    expect(page.locator("#main")).to_be_visible()
    page.goto(f"{product.url}/jobs/new/?example=script")
    page.locator("#job-start .is-primary").click()
    expect(page.get_by_role("heading", name="hello", level=1)).to_be_visible()
    yield context.storage_state()
    context.close()


@pytest.fixture
def open_page(product, browser, signed_in):
    """Open a page of the product in a new browser; it must never throw."""
    contexts, thrown = [], []

    def open_it(address, **options):
        context = browser.new_context(storage_state=signed_in, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: thrown.append(str(error)))
        page.goto(product.url + address)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert thrown == []


def script(name):
    """Return the example script as the text of a job of this name."""
    text = Path(PROJECT, "examples", "hello-script.yaml").read_text()
    return text.replace("name: hello\n", f"name: {name}\n")


def write_without_script(page, text):
    page.locator("textarea[name=spec]").fill(text)


def test_without_script_one_plans_starts_and_stops(open_page):
    page = open_page("/jobs/new/?example=script", java_script_enabled=False)
    write_without_script(page, script("plain") + "colour: red\n")
    page.get_by_role("button", name="Plan").click()
    expect(page.locator(".problem.is-bad")).to_contain_text("colour")
    assert "colour: red" in page.locator("textarea[name=spec]").input_value()
    write_without_script(page, script("plain"))
    page.get_by_role("button", name="Plan").click()
    page.get_by_role("button", name="Start rollout on 1 node").click()
    expect(page.get_by_role("heading", name="plain", level=1)).to_be_visible()
    page.get_by_role("link", name="Delete…").click()
    page.get_by_label("Type plain to delete it").fill("plain")
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#toasts")).to_contain_text("plain is deleted")


def test_keys_lead_to_a_problem_and_start_the_rollout(open_page):
    page = open_page("/jobs/new/?example=script")
    box = page.locator(".cm-content")
    box.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(script("keyed"))
    page.keyboard.type("colour: red\n")
    expect(page.locator("[data-problem-line='12']")).to_be_visible()
    page.keyboard.press("Control+Home")
    page.keyboard.press("F8")
    page.keyboard.press("Control+Shift+K")
    expect(page.locator("#job-start .is-primary")).to_be_visible()
    page.keyboard.press("Control+Shift+Enter")
    expect(page.get_by_role("heading", name="keyed", level=1)).to_be_visible()
    expect(page.locator(".page-title .state")).to_contain_text("Completed")


def test_a_tick_that_changes_the_plan_asks_for_it_again(open_page):
    page = open_page("/jobs/default/hello/edit/")
    expect(page.locator("#job-start [aria-disabled]")).to_be_visible()
    page.get_by_label("Restart it as it is").check()
    expect(page.locator("#job-start .is-primary")).to_contain_text(
        "Restart 1 node",
    )
    page.get_by_label("Restart it as it is").uncheck()
    expect(page.locator("#job-start [aria-disabled]")).to_be_visible()


def test_the_question_before_stopping_stays_on_a_live_page(open_page):
    page = open_page("/jobs/default/hello/?confirm=delete")
    expect(page.locator("#live-badge")).to_contain_text("Live")
    expect(page.locator(".confirm")).to_be_visible()
    expect(page.get_by_role("link", name="Keep it")).to_be_focused()


@pytest.mark.parametrize(
    "address",
    [
        "/jobs/",
        "/jobs/?q=nothing-like-it",
        "/jobs/default/hello/",
        "/jobs/default/hello/?tab=versions",
        "/jobs/default/hello/?tab=history",
        "/jobs/default/hello/?tab=yaml",
        "/jobs/default/hello/?confirm=delete",
        "/jobs/default/hello/edit/",
        "/jobs/new/",
    ],
)
def test_pages_are_accessible_and_fit_a_phone(open_page, address):
    page = open_page(address, color_scheme="light", viewport={"width": 1440, "height": 900})
    page.wait_for_load_state("networkidle")
    light = page.evaluate(BACKGROUND)
    no_fault_is_found(page)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(BACKGROUND) != light
    no_fault_is_found(page)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def open_execution(open_page, **options):
    """Open the execution of hello, once its answer stands in its log."""
    page = open_page("/executions/?job=hello", **options)
    page.locator("#executions th a").first.click()
    for _ in range(20):
        if page.get_by_text("hello from").count():
            return page
        page.wait_for_timeout(SECOND)
        page.reload()
    raise AssertionError("the script has written nothing")


def test_a_log_is_searched_as_one_types_and_back_shows_all_of_it(open_page):
    page = open_execution(open_page)
    page.locator("#q").fill("HELLO")
    expect(page.locator("#log-box mark").first).to_have_text("hello")
    expect(page.locator("#q")).to_be_focused()
    assert page.url.endswith("?q=HELLO")
    no_fault_is_found(page)
    page.go_back()
    expect(page.locator("[id$=-log]")).to_be_visible()
    assert page.locator("#log-box mark").count() == 0
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the log").click()
    assert "stdout hello from" in download.value.path().read_text()


def test_a_log_is_searched_without_script_as_well(open_page):
    page = open_execution(open_page, java_script_enabled=False)
    page.locator("#q").fill("hello")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#log-box mark").first).to_have_text("hello")


def no_fault_is_found(page):
    # Colours that are still on their way from one theme to the other are nobody's.
    page.evaluate("Promise.all(document.getAnimations().map((each) => each.finished))")
    found = Axe().run(page, options=AXE)
    assert [
        (v["id"], [n["target"] for n in v["nodes"]]) for v in found.response["violations"]
    ] == []
