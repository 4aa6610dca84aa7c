"""The shell in a real browser: pushes, fall-back, focus, keys, theme and editor under the policy."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.chromium import launched, needs_chromium
from tests.live.shell_site import ShellSite
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
]


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def site():
    site = ShellSite()
    server, thread = site.serve()
    wait_until(lambda: server.started)
    yield site
    site.cut(refuse=True)
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def page(browser, site):
    """A page that fails its test when the console shows an error or the policy was broken."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else 0)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield page
    context.close()
    assert [text for text in said if "WebSocket" not in text and "htmx:ws" not in text] == []


def open_live(page, site):
    page.goto(site.url)
    wait_until(lambda: site.sockets)


def test_a_push_changes_the_box_and_leaves_the_half_typed_field_alone(page, site):
    open_live(page, site)
    page.locator("#reason").press_sequentially("half a rea")
    site.push("second words", 2)
    expect(page.locator("#words")).to_have_text("second words")
    expect(page.locator("#reason")).to_be_focused()
    assert page.locator("#reason").input_value() == "half a rea"
    expect(page.locator("#live-badge")).to_contain_text("Live")
    assert page.locator("#rollout-7-waves").get_attribute("data-revision") == "2"


def test_many_pushes_leave_no_crumbs_around_the_box(page, site):
    open_live(page, site)
    around = "document.querySelector('#rollout-7-waves').parentNode.childNodes.length"
    before = page.evaluate(around)
    for revision in range(2, 6):
        site.push(f"push {revision}", revision)
        expect(page.locator("#words")).to_have_text(f"push {revision}")
    assert page.evaluate(around) == before


def test_an_older_push_never_replaces_a_newer_box(page, site):
    open_live(page, site)
    page.evaluate(
        "window.heard = 0;"
        "document.addEventListener('htmx:ws:after:message:incoming', () => { window.heard += 1; })"
    )
    site.push("newest", 5)
    expect(page.locator("#words")).to_have_text("newest")
    site.push("out of order", 4)
    wait_until(lambda: page.evaluate("window.heard") == 2)
    expect(page.locator("#words")).to_have_text("newest")


def test_a_list_filters_on_its_own_address_while_someone_types(page, site):
    page.goto(f"{site.url}/list")
    page.keyboard.press("/")
    # At once, as a busy machine may pause between two keys and then asks for what there is.
    page.keyboard.insert_text("edge")
    expect(page.locator("#rows")).to_have_text("rows for edge")
    wait_until(lambda: page.url.endswith("/list?q=edge"))
    expect(page.locator("main input")).to_be_focused()
    page.go_back()
    expect(page.locator("#rows")).to_have_text("rows for")


def test_without_a_socket_the_page_says_so_and_goes_on_asking(page, site):
    open_live(page, site)
    site.cut(refuse=True)
    site.words, site.revision = "asked for", 9
    expect(page.locator("#words")).to_have_text("asked for", timeout=12_000)
    expect(page.locator("#live-badge")).to_have_text("Live paused, retrying")
    assert site.polls[0] == "/live/rollout/7/waves/"


def test_a_cut_socket_is_made_again(page, site):
    open_live(page, site)
    site.cut(refuse=False)
    wait_until(lambda: not site.sockets)
    wait_until(lambda: site.sockets)
    site.push("after the cut", 3)
    expect(page.locator("#words")).to_have_text("after the cut")


def test_marks_are_one_tab_stop_and_arrows_move_along_and_down(page, site):
    open_live(page, site)
    marks = page.locator("a.mark")
    assert marks.evaluate_all("all => all.filter(one => one.tabIndex === 0).length") == 1
    marks.first.focus()
    page.keyboard.press("ArrowRight")
    expect(marks.nth(1)).to_be_focused()
    page.keyboard.press("ArrowDown")
    below = page.evaluate(
        "[document.activeElement.getBoundingClientRect().left - "
        "document.querySelectorAll('a.mark')[1].getBoundingClientRect().left, "
        "document.activeElement.getBoundingClientRect().top - "
        "document.querySelectorAll('a.mark')[1].getBoundingClientRect().top]"
    )
    assert below[0] == 0
    assert 5 < below[1] < 40
    here = page.evaluate("document.activeElement.href")
    site.push("focus stays", 2)
    expect(page.locator("#words")).to_have_text("focus stays")
    assert page.evaluate("document.activeElement.href") == here
    assert marks.evaluate_all("all => all.filter(one => one.tabIndex === 0).length") == 1


def test_times_become_ages_and_count_downs_with_the_exact_time_in_the_title(page, site):
    open_live(page, site)
    age = page.locator("time[data-ago]")
    expect(age).to_contain_text("1 min 4")
    expect(age).to_contain_text("ago")
    assert age.get_attribute("title").endswith("UTC")
    expect(page.locator("time[data-until]")).to_contain_text("in 1 min 4")


def test_keys_focus_the_filter_open_the_help_and_go_to_pages(page, site):
    open_live(page, site)
    page.keyboard.press("/")
    expect(page.locator(".jump input")).to_be_focused()
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_hidden()
    page.locator("h1").click()
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("j")
    page.wait_for_url("**/jobs/list/")


def test_the_theme_is_kept_and_set_before_the_first_paint(page, site):
    open_live(page, site)
    page.locator(".rail-foot [popovertarget=user-menu]").click()
    page.locator("[data-theme-choice=dark]").click()
    page.goto(site.url, wait_until="commit")
    wait_until(lambda: page.evaluate("document.body !== null"))
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.wait_for_load_state()
    assert page.locator("[data-theme-choice=dark]").get_attribute("aria-pressed") == "true"


def test_the_editor_plans_after_a_pause_marks_problems_and_keeps_the_field_in_step(page, site):
    page.goto(f"{site.url}/edit")
    page.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.type("x: 1\n")
    wait_until(lambda: site.plans)
    assert site.plans[0].startswith("token-of-the-page spec=name%3A+edge")
    assert page.locator("textarea").input_value().endswith("x: 1\n")
    expect(page.locator("#job-plan")).to_contain_text("type is unknown")
    expect(page.locator(".cm-lintRange-error")).to_have_text("type: pipeline")
    page.locator("#job-plan a").click()
    assert page.evaluate(
        "getSelection().anchorNode.parentElement.closest('.cm-line').innerText"
    ) == ("type: pipeline")
    asked = len(site.plans)
    page.keyboard.press("Control+Enter")
    wait_until(lambda: len(site.plans) > asked)


def test_the_editor_completes_keys_from_the_schema_and_lets_the_keyboard_out(page, site):
    page.goto(f"{site.url}/edit")
    page.locator(".cm-line").nth(4).click()
    page.keyboard.press("End")
    page.keyboard.type("can")
    expect(page.locator(".cm-tooltip-autocomplete li")).to_have_text(["canary_percent"])
    # CodeMirror takes no key for a list younger than its `interactionDelay` (75 ms): what was
    # typed before one could have read it is text.
    shown = page.evaluate("performance.now()")
    page.wait_for_function("shown => performance.now() - shown > 150", arg=shown)
    page.keyboard.press("Enter")
    wait_until(lambda: "  canary_percent: " in page.locator("textarea").input_value())
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('.cm-editor')") is None


def test_a_copy_button_answers_in_words(page, site):
    open_live(page, site)
    page.locator("[data-copy='job-2f61c0']").click()
    expect(page.locator("#announcer")).not_to_be_empty()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ["/", "/edit", "/missing"])
def test_the_shell_has_no_accessibility_faults(page, site, scheme, address):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(f"{site.url}{address}")
    # Marks are under 24 px; each has an equal in the node table and with the arrow keys.
    options = {"rules": {"target-size": {"enabled": False}}}
    found = Axe().run(page, options=options).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
