"""What tests in a browser share."""

from typing import Any

from tests.programs import until

WAIT_MS = 60_000
COLOURS = """canvas => {
    if (!canvas.width || !canvas.height) return 0;
    const copy = Object.assign(document.createElement("canvas"), {width: canvas.width, height: canvas.height});
    const pen = copy.getContext("2d", {willReadFrequently: true});
    pen.drawImage(canvas, 0, 0);
    const {data} = pen.getImageData(0, 0, copy.width, copy.height);
    const colours = new Set();
    for (let i = 0; i < data.length; i += 4) colours.add(data[i] << 16 | data[i + 1] << 8 | data[i + 2]);
    return colours.size;
}"""
"""Number of colours of a canvas. A copy is read: Chromium warns of each canvas that is read again and again."""


def holds(tab: Any, expression: str) -> None:
    """Waits until an expression of the page is true. Playwright's own wait evaluates text in the page, which the page's
    policy forbids at every look but the first.
    """
    until(lambda: tab.evaluate(expression), expression)


def console_of(tab: Any) -> list[str]:
    """A list that grows with each warning and error of a tab, whose waits are long: only a failure waits so long."""
    said: list[str] = []

    def note(message: Any) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            said.append(message.text)

    tab.set_default_timeout(WAIT_MS)
    tab.on("console", note)
    tab.on("pageerror", lambda error: said.append(str(error)))
    return said
