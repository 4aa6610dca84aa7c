"""The walk of the README in a real browser: every step is seen in the page, and without a reload."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.chromium import launched, needs_chromium
from tests.e2e.fleet import NODES, example
from tests.stack import PROJECT

PICTURES = Path(PROJECT) / "test-results"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.e2e,
    pytest.mark.timeout(420),
    needs_chromium,
]

PASTE = """(box, text) => {
    const data = new DataTransfer();
    data.setData("text/plain", text);
    box.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
}"""

# What a person sees change: the badge, the wave under way, the marks; kept once for each change.
WATCH = """() => {
    window.seen = [];
    const look = () => {
        const waves = [...document.querySelectorAll(".waves .wave")];
        const now = {
            badge: document.querySelector(".page-title .state")?.textContent.trim(),
            wave: waves.findIndex((wave) => wave.classList.contains("is-current")) + 1,
            done: waves.map((wave) => wave.querySelector(".wave-head .n").textContent.trim()),
            marks: Object.fromEntries([...document.querySelectorAll("a.mark")].map(
                (mark) => mark.title.split(": "))),
        };
        if (JSON.stringify(now) !== JSON.stringify(window.seen.at(-1))) window.seen.push(now);
    };
    look();
    new MutationObserver(look).observe(
        document.body, {subtree: true, childList: true, characterData: true, attributes: true});
}"""


@pytest.fixture(scope="module")
def browser():
    with launched() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """A page that fails its test when the console shows an error or the policy was broken."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    wrong = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("response", lambda it: wrong.append(f"{it.status} {it.url}") if it.status >= 500 else 0)
    yield page
    context.close()
    assert wrong == []


def picture(page, name):
    PICTURES.mkdir(exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")


def write_text(page, text):
    """Replace the editor's text, as a person does who pastes over all of it."""
    box = page.locator(".cm-content")
    box.click()
    page.keyboard.press("Control+A")
    box.evaluate(PASTE, text)


def plan_shows(page, verb):
    """The plan names every node and its wave before there is a button to start."""
    button = page.locator("#job-start button.is-primary")
    expect(button).to_contain_text(verb)
    plan = page.locator("#job-plan")
    for name in NODES:
        expect(plan).to_contain_text(name)
    return [re.findall(r"edge-\d", names) for names in plan.locator("td.names").all_text_contents()]


def start(page, version):
    """Start, land on the job's page, and open the rollout that it lists for the version."""
    page.locator("#job-start button.is-primary").click()
    expect(page.get_by_role("heading", name="web-log", level=1)).to_be_visible()
    rollouts = page.locator('.job-rollouts a[href^="/rollouts/"]')
    rollouts.filter(has_text=re.compile(rf"v{version}$")).first.click()
    expect(page.locator(".version-step")).to_contain_text(f"v{version}")
    page.evaluate(WATCH)


def unhurried(name):
    """Return an example whose waves take longer, so that a busy browser sees each of them."""
    text = example(name)
    assert "interval: 2s" in text
    return text.replace("interval: 2s", "interval: 8s")


def badge(page):
    return page.locator(".page-title .state")


def edit(page):
    page.locator(".crumbs").get_by_role("link", name="web-log").click()
    page.get_by_role("link", name="Edit").click()


def test_the_walk_of_the_readme_is_seen_in_the_page(fleet, page):
    page.goto(fleet.product.sign_in_url)
    page.get_by_role("button", name="Sign in as admin").click()
    expect(page.locator("#main")).to_be_visible()
    picture(page, "1-first-page")

    try:
        v1_runs_everywhere(fleet, page)
        v2_goes_in_waves(page)
        v3_comes_back_by_itself(page)
    finally:
        fleet.delete_if_there("web-log")


def v1_runs_everywhere(fleet, page):
    page.goto(f"{fleet.product.url}/jobs/new/")
    write_text(page, example("web-log-v1.yaml"))
    (wave,) = plan_shows(page, "5 nodes")
    assert sorted(wave) == NODES
    picture(page, "2-editor")
    start(page, 1)
    expect(badge(page)).to_have_text("Completed")
    expect(page.locator("a.mark.is-stable")).to_have_count(5)
    picture(page, "3-v1")


def v2_goes_in_waves(page):
    edit(page)
    write_text(page, unhurried("web-log-v2.yaml"))
    expect(page.locator("#job-plan")).to_contain_text("v1 to v2")
    waves = plan_shows(page, "5 nodes")
    assert [len(names) for names in waves] == [1, 3, 1]
    picture(page, "4-plan-of-v2")
    start(page, 2)
    expect(badge(page)).to_contain_text("Rolling, wave")
    expect(page.locator(".waves .wave")).to_have_count(3)
    expect(page.locator("a.mark.is-validating").first).to_be_visible()
    expect(page.locator(".wave.is-current")).to_have_count(1)
    expect(page.locator(".wave").nth(1)).to_have_class(
        re.compile("is-current"),
    )
    expect(page.locator("a.mark.is-validating").first).to_be_visible()
    picture(page, "5-v2-rolling")
    expect(badge(page)).to_have_text("Completed")
    expect(page.locator("a.mark.is-stable")).to_have_count(5)
    expect(page.locator("#live-badge")).to_contain_text("Live")
    no_wave_before_the_one_before(page.evaluate("window.seen"), waves)
    picture(page, "6-v2")


def no_wave_before_the_one_before(seen, waves):
    """The page showed each wave under way in turn, and no mark of a later one moved before."""
    assert seen, "the page was loaded again"
    assert [wave for wave in dict.fromkeys(look["wave"] for look in seen) if wave] == [1, 2, 3]
    words = {word for look in seen for word in look["marks"].values()}
    assert {"validating", "stable"} <= words
    for look in seen:
        for number, names in enumerate(waves[1:], 2):
            before = [name for wave in waves[: number - 1] for name in wave]
            if look["wave"] and look["wave"] < number:
                assert {look["marks"][name] for name in names} == {"not sent"}, look
            if look["wave"] == number:
                assert {look["marks"][name] for name in before} == {"stable"}, look


def v3_comes_back_by_itself(page):
    edit(page)
    write_text(page, unhurried("web-log-v3.yaml"))
    expect(page.locator("#job-plan")).to_contain_text("v2 to v3")
    plan_shows(page, "5 nodes")
    start(page, 3)
    expect(badge(page)).to_contain_text("Rolling, wave")
    alert = page.locator(".alert")
    expect(alert).to_contain_text("v2")
    seen = page.evaluate("window.seen")
    assert seen, "the page was loaded again"
    assert max(look["wave"] for look in seen) == 1, "v3 went beyond its canary"
    assert "validating" in {word for look in seen for word in look["marks"].values()}
    picture(page, "7-v3-came-back")

    alert.get_by_role("link").click()
    expect(page.locator(".version-step")).to_contain_text("v4")
    expect(badge(page)).to_have_text("Completed")
    picture(page, "8-v4")
    page.locator(".crumbs").get_by_role("link", name="web-log").click()
    expect(badge(page)).to_have_text("Running")
    no_column_is_cut_off(page)
    page.locator(".tabs").get_by_role("link", name="Versions").click()
    expect(page.locator("tr[aria-current]")).to_contain_text("rollback")
    picture(page, "10-versions")


def no_column_is_cut_off(page):
    """A laptop's width shows every column of the job's rollouts and executions."""
    before = page.viewport_size
    page.set_viewport_size({"width": 1280, "height": 900})
    tables = page.locator(".job-rollouts .table-wrap")
    expect(tables).to_have_count(2)
    beyond = "all => all.map((box) => box.scrollWidth - box.clientWidth)"
    assert tables.evaluate_all(beyond) == [0, 0]
    picture(page, "9-job")
    page.set_viewport_size(before)
