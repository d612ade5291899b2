"""The label page in a real browser: keys, undo, two people, hostile texts."""

from __future__ import annotations

import asyncio
import time

import pytest
import uvicorn

pytest.importorskip("selenium")

from langchain_dsplus.serve import label_app
from langchain_dsplus.serve.run import config_of
from tests.integration.test_report_browser import browser  # noqa: F401 - a fixture
from tests.unit.serve.conftest import in_thread
from tests.unit.shunt.conftest import LABELS, World

HOSTILE = "</div><script>document.title='RAN'</script><img src=x onerror=\"document.title='RAN'\">"


def wait(look):
    end = time.monotonic() + 10
    while not (found := look()):
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)
    return found


@pytest.fixture
def page(tmp_path):
    """A shunt with six disagreements, and the address of its page."""
    here = World(tmp_path)
    with here.shunt() as shunt:
        texts = [HOSTILE, *here.texts(5)]
        here.truth[HOSTILE] = "refund"
        shunt.batch(texts)
        shunt.folder.save_wanted([
            {"id": row["route_id"], "small": "login", "large": "refund", "needed": True}
            for row in shunt.store.rows(kind="route")
        ])  # fmt: skip

        async def main(ready, stop):
            server = uvicorn.Server(config_of(label_app(shunt.folder, shunt.store, "a/t+k n"), "127.0.0.1", 0, 1.0))
            running = asyncio.create_task(server.serve())
            while not server.started:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            ready(f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
            await stop.wait()
            server.should_exit = True
            await running

        with in_thread(main) as url:
            yield shunt, url


def test_people_label_with_keys(browser, page):  # noqa: F811
    from selenium.webdriver.common.by import By

    shunt, url = page

    def text(name):
        return browser.find_element(By.ID, name).text

    def gold():
        return {row["route_id"]: row["gold"] for row in shunt.store.rows(kind="gold")}

    def press(key):
        browser.find_element(By.TAG_NAME, "body").send_keys(key)

    browser.get(url)
    wait(lambda: "token" in text("message"))
    assert not browser.find_element(By.ID, "card").is_displayed()

    browser.get(f"{url}/#a%2Ft%2Bk%20n")
    browser.refresh()
    wait(lambda: text("input"))
    assert text("input") == HOSTILE
    assert text("needed")
    assert browser.title == "Which label is true?"
    assert not browser.find_elements(By.CSS_SELECTOR, "#input *")
    shown = [item.text[1:].strip() for item in browser.find_elements(By.CSS_SELECTOR, "#choices li")]
    assert sorted(shown) == sorted(LABELS)
    assert set(shown[:2]) == {"login", "refund"}

    ids = [row["id"] for row in shunt.folder.wanted()]
    press("1")
    wait(lambda: gold() == {ids[0]: shown[0]})
    wait(lambda: "1 labelled here, 1 by you; 5 left" in text("progress"))
    press("u")
    wait(lambda: gold() == {ids[0]: None})
    wait(lambda: text("input") == HOSTILE)
    press("9")  # there is no ninth label
    press("0")
    wait(lambda: text("input") != HOSTILE)
    assert gold() == {ids[0]: None}

    mine = text("input")
    first = browser.current_window_handle
    browser.switch_to.new_window("tab")
    browser.get(f"{url}/#a%2Ft%2Bk%20n")
    wait(lambda: text("input"))
    assert text("input") != mine, "two people have one row"
    browser.close()
    browser.switch_to.window(first)

    for _ in range(4):
        before = text("input")
        press("3")
        wait(lambda before=before: text("input") != before)
    assert "delivery" in gold().values()
    hosts = {entry.split("/")[2] for entry in browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)")}  # fmt: skip
    assert hosts == {url.removeprefix("http://")}
    assert browser.title == "Which label is true?"
