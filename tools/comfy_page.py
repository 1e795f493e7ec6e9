"""Drive ComfyUI's page in a headless Chromium, as a user does.

    with ComfyPage(f"http://127.0.0.1:{server.port}", chromium) as page:
        page.load(workflow)
        page.queue()
        page.wait_until_done()

Playwright drives it; `page.browser` is Playwright's own page for all else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

READY = "window.app?.graph && window.app.vueAppReady && window.app.extensionManager?.workflow?.activeWorkflow?.isLoaded"
PATIENCE = 300_000  # milliseconds that the page may take for anything: only a page that hangs is slower
QUIET = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Release.Status": "skipped",
}
# Resolves once the nodes and the view of them are the same for a few frames in a row.
SETTLED = """() => new Promise(done => {
    let before = '', same = 0
    const look = () => {
        const {scale, offset} = window.app.canvas.ds
        const now = JSON.stringify([scale, [...offset], window.app.rootGraph.serialize()])
        same = now === before ? same + 1 : 0
        before = now
        same < 5 ? requestAnimationFrame(look) : done()
    }
    look()
})"""


class ComfyPage:
    """`chromium` is the browser's executable, `settings` are the page's own, which the server keeps.

    Errors of the page's scripts are collected in `errors`.
    """

    def __init__(
        self,
        address: str,
        chromium: str,
        settings: dict[str, Any] | None = None,
        size: tuple[int, int] = (1600, 1000),
    ):
        self.address, self.chromium, self.settings, self.size = address, chromium, settings or {}, size
        self.errors: list[str] = []

    def __enter__(self) -> ComfyPage:
        from playwright.sync_api import sync_playwright

        self.playwright = sync_playwright().start()
        try:
            # Containers lack what Chromium's sandbox needs; only this machine's own server is visited.
            started = self.playwright.chromium.launch(
                executable_path=self.chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            width, height = self.size
            tabs = started.new_context(viewport={"width": width, "height": height})
            tabs.set_default_timeout(PATIENCE)
            self.browser = tabs.new_page()
            self.browser.on("pageerror", lambda error: self.errors.append(str(error)))
            self.set(**self.settings)
            self.open_in(self.browser)
            self.settle()  # the first workflow would take the place of what is loaded too early
        except BaseException:
            self.playwright.stop()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.playwright.stop()

    def set(self, **settings: Any) -> None:
        """Give the server settings for pages that are opened later. A page without them would open dialogs."""
        self.browser.request.post(f"{self.address}/settings", data=QUIET | settings)

    def open_in(self, tab: Any) -> None:
        """Open the page in a tab of the browser."""
        tab.goto(self.address)
        tab.wait_for_function(READY)

    def settle(self) -> None:
        """Wait until nodes have their sizes and the view has stopped moving."""
        self.browser.evaluate(SETTLED)

    def load(self, workflow: dict[str, Any]) -> None:
        self.browser.evaluate("async workflow => { await window.app.loadGraphData(workflow) }", workflow)
        self.settle()

    def forget(self) -> None:
        """Let the server run again what it remembers the results of."""
        self.browser.evaluate(
            """() => window.app.api.fetchApi('/free', {
                method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{"free_memory": true}'
            })"""
        )

    def clear(self) -> None:
        self.browser.evaluate("() => { window.app.graph.clear(); window.app.canvas.ds.reset() }")

    def fit(self) -> None:
        self.browser.evaluate("() => window.app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.settle()

    def open_template(self, pack: str, name: str, beside: Sequence[str] = ()) -> None:
        """Open a template through the template browser, which has to offer the ones `beside` it too."""
        from playwright.sync_api import TimeoutError

        self.browser.get_by_role("button", name="Templates").click()
        self.browser.get_by_role("button", name=pack).last.click()
        cards = {other: self.browser.get_by_test_id(f"template-workflow-{other}") for other in (name, *beside)}
        for card in cards.values():
            card.wait_for(state="attached")
        template = cards[name]
        template.click()
        opened = "name => window.app.extensionManager.workflow.activeWorkflow?.filename.startsWith(name)"
        for _ in range(10):
            try:
                self.browser.wait_for_function(opened, arg=name, timeout=PATIENCE / 10)
                return
            except TimeoutError:
                if template.is_visible():  # the click met a card that the page was still moving
                    template.click()
        raise ValueError(f"The template {name} does not open.")

    def search_library(self, text: str) -> Any:
        """Type into the open node library's search field and return the entries that it shows."""
        self.browser.get_by_placeholder(re.compile(r"^Search( Nodes)?\.\.\.$")).first.fill(text)
        return self.browser.locator("[role=treeitem][draggable=true]")

    def drag_from_library(self, name: str, x: int, y: int) -> None:
        """Drag a node by the name that the open node library shows, to a place on the canvas in pixels."""
        from playwright.sync_api import TimeoutError

        entry = self.search_library(name).filter(has_text=re.compile(rf"^\s*{re.escape(name)}\s*$")).first
        nodes = self.browser.evaluate("() => window.app.graph.nodes.length")
        for _ in range(10):
            self.browser.wait_for_timeout(400)  # the list follows the typing after a moment ...
            entry.drag_to(self.browser.locator("#graph-canvas"), target_position={"x": x, "y": y})
            try:
                more = "nodes => window.app.graph.nodes.length > nodes"
                self.browser.wait_for_function(more, arg=nodes, timeout=5000)
                return
            except TimeoutError:
                continue  # ... and takes the entry from under a mouse that is too early
        raise ValueError(f"{name} does not come to the canvas.")

    def use(self, values: dict[str, dict[str, Any]]) -> None:
        """Put other values into widgets: for a widget's name, a value as text and what takes its place."""
        self.browser.evaluate(
            """values => {
                for (const node of window.app.graph.nodes)
                    for (const widget of node.widgets ?? []) {
                        const other = values[widget.name]?.[String(widget.value)]
                        if (other !== undefined) widget.value = other
                    }
            }""",
            values,
        )

    def workflow(self) -> dict[str, Any]:
        """Return the graph as the page would save it."""
        return json.loads(self.browser.evaluate("() => JSON.stringify(window.app.rootGraph.serialize())"))

    def prompt(self) -> dict[str, Any]:
        """Return the graph as the page would queue it, in API format."""
        return self.browser.evaluate("async () => (await window.app.graphToPrompt()).output")

    def queue(self) -> None:
        """Queue the graph, and collect the server's reports of the run in the page."""
        self.browser.evaluate(
            """() => {
                const reports = window.reports = {previews: [], values: [], errors: [], reading: 0, done: false};
                if (!window.listening) {
                    window.listening = true;
                    const on = (kind, use) => window.app.api.addEventListener(kind, event => use(event.detail));
                    on('b_preview_with_metadata', async ({blob, displayNodeId}) => {
                        const reports = window.reports;
                        reports.reading += 1;
                        const bytes = new Uint8Array(await blob.arrayBuffer());
                        reports.previews.push([displayNodeId, btoa(String.fromCharCode(...bytes))]);
                        reports.reading -= 1;
                    });
                    on('progress', ({node, value, max}) => window.reports.values.push([node, value, max]));
                    on('execution_error', ({node_id: node, exception_message: message}) =>
                        window.reports.errors.push([node, message]));
                    for (const end of ['execution_success', 'execution_error', 'execution_interrupted'])
                        on(end, () => { window.reports.done = true });
                }
            }"""
        )
        self.browser.evaluate("async () => { await window.app.queuePrompt(0) }")

    def wait_until_done(self) -> dict[str, Any]:
        """Wait for the end of the run and return the server's reports of it: previews, values of progress, errors."""
        refused = "Object.keys(window.app.lastNodeErrors ?? {}).length"
        done = "window.reports.done && !window.reports.reading"
        self.browser.wait_for_function(f"() => ({done}) || {refused}", polling=100)
        if not self.browser.evaluate("() => window.reports.done"):
            raise ValueError(f"The server refused it: {self.browser.evaluate('() => window.app.lastNodeErrors')}")
        return self.browser.evaluate("() => window.reports")

    def screenshot(self, file: Path) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        self.browser.screenshot(path=file)
        return file
