"""Pages in a real browser, and a text that does all it can to act in one."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 180_000  # with a machine that does other work
HOSTILE = (
    "</script></style></title><script>window.hit = 1</script><img src=x onerror='window.hit=1'><svg/onload=hit=1>"
    '<!-- --><a href="javascript:window.hit=1">x</a>" onfocus=window.hit=1 autofocus x="<iframe src=\'http://example.org\'>'
    "\u2028\u2029\u202e\ud800\x00\x1b &amp; <b>"
)


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium, without which the test is skipped. What needs an event loop is made before: it keeps that of its thread
    to itself."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium")
    with api.sync_playwright() as started:
        yield started.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--headless"])


class Seen:
    """A page open in the browser, all it wrote to the console, and all it asked for."""

    def __init__(self, browser: Any, place: Path | str, **settings: Any) -> None:
        """`place`: a file, or an address."""
        self.console: list[str] = []
        self.asked: list[str] = []
        self.page = browser.new_context(**settings).new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", lambda message: self.console.append(message.text))
        self.page.on("pageerror", lambda error: self.console.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(place if isinstance(place, str) else place.as_uri())

    def look(self, script: str) -> Any:
        return self.page.evaluate(script)

    def unfold(self) -> None:
        """Open every fold."""
        self.look(UNFOLD)

    def wait(self, script: str) -> None:
        """Until a script holds. Playwright's own way to wait asks for eval, which the policy of our pages refuses."""
        deadline = time.monotonic() + PATIENCE_MS / 1_000
        while not self.look(script):
            assert time.monotonic() < deadline, script
            self.page.wait_for_timeout(20)


#: Opens every fold, also those of steps that are no elements yet.
UNFOLD = (
    "typeof makeAll === 'undefined' || makeAll();"
    "document.querySelectorAll('details').forEach(part => part.open = true)"
)

# WCAG 2.2, 1.4.3: 4.5 to 1 for text, against the nearest ground that is not clear.
CONTRAST = """() => {
  UNFOLD;
  const parts = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return {r, g, b, a}; };
  const linear = (v) => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = ({r, g, b}) => .2126 * linear(r / 255) + .7152 * linear(g / 255) + .0722 * linear(b / 255);
  const ground = (at) => {
    for (; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.a === 1) return colour;
    }
    return {r: 255, g: 255, b: 255};
  };
  const poor = new Set();
  for (const at of document.querySelectorAll('main *:not(svg *), nav *')) {
    if (![...at.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
    const [a, b] = [light(parts(getComputedStyle(at).color)), light(ground(at))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) poor.add(`${at.tagName}.${at.className} ${ratio.toFixed(2)}`);
  }
  return [...poor];
}""".replace("UNFOLD", UNFOLD)
