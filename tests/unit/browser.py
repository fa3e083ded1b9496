"""Opens a page in a headless browser, at the widths of a phone and of a screen, and measures what a reader would see."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
WIDTHS = (360, 1200)
SCHEMES = {"dark": 0, "light": 1}  # numbers of Blink's setting

# Runs in a page around the page. A text counts where it can be seen: what a scrolled box hides is cut off.
MEASURE = r"""
const luminance = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map(c => c / 255).map(c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const numbers = colour => colour.match(/[\d.]+/g).map(Number);
function background(element) {
  for (let e = element; e; e = e.parentElement) {
    const colour = numbers(e.ownerDocument.defaultView.getComputedStyle(e).backgroundColor);
    if (colour.length === 3 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
}
function contrast(element) {
  const css = element.ownerDocument.defaultView.getComputedStyle(element);
  const ink = css[element.closest('svg') ? 'fill' : 'color'];
  const [a, b] = [luminance(numbers(ink)), luminance(background(element))];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
function visible(rect, element) {
  let [left, top, right, bottom] = [rect.left, rect.top, rect.right, rect.bottom];
  for (let e = element; e; e = e.parentElement) {
    if (!e.matches('.scroll, pre')) continue;
    const box = e.getBoundingClientRect();
    [left, right] = [Math.max(left, box.left), Math.min(right, box.right)];
    [top, bottom] = [Math.max(top, box.top), Math.min(bottom, box.bottom)];
  }
  const inset = 0.15 * (bottom - top);  // letters do not fill their line
  return {left: left + 1, top: top + inset, right: right - 1, bottom: bottom - inset};
}
function texts(page) {
  const walker = page.createTreeWalker(page.body, NodeFilter.SHOW_TEXT), found = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest('style, script, defs, title')) continue;
    const range = page.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) {
      const box = visible(rect, element);
      if (box.right > box.left && box.bottom > box.top) found.push({node, element, box, height: rect.height});
    }
  }
  return found;
}
function measure(frame) {
  const page = frame.contentDocument, all = texts(page), overlaps = [];
  all.forEach((a, i) => all.slice(i + 1).forEach(b => {
    const beside = a.box.right <= b.box.left || b.box.right <= a.box.left;
    const apart = beside || a.box.bottom <= b.box.top || b.box.bottom <= a.box.top;
    if (a.node !== b.node && !apart) overlaps.push([a.node.data.trim().slice(0, 60), b.node.data.trim().slice(0, 60)]);
  }));
  return {
    width: frame.clientWidth,
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    outside: all.filter(a => a.box.left < 0 || a.box.right > frame.clientWidth).map(a => a.node.data.trim().slice(0, 60)),
    overlaps,
    texts: all.length,
    smallest: Math.min(...all.map(a => a.height)),
    faint: all.filter(a => contrast(a.element) < 4.5).map(a => a.node.data.trim().slice(0, 60)),
    background: background(page.body),
    requests: frame.contentWindow.performance.getEntriesByType('resource').map(entry => entry.name),
  };
}
addEventListener('load', () => {
  const result = document.createElement('pre');
  result.id = 'measured';
  result.textContent = JSON.stringify([...document.querySelectorAll('iframe')].map(measure));
  document.body.replaceChildren(result);
});
"""


def look_at(page: str, folder: Path, scheme: str) -> list[dict[str, Any]]:
    """What a reader sees of ``page`` with a ``light`` or ``dark`` system, for each of :data:`WIDTHS`.

    Returns:
        ``overflow`` (pixels by which the page is too wide), ``outside`` (texts that leave the window), ``overlaps`` (pairs of
        texts), ``texts`` (number of lines), ``smallest`` (height of a line in pixels), ``faint`` (texts with a contrast below
        4.5), ``background`` (red, green, blue), ``requests`` (addresses that the page asked for).
    """
    assert BROWSER is not None
    frames = "".join(
        f'<iframe srcdoc="{html.escape(page)}" style="width: {width}px; height: 4000px; border: 0"></iframe>'
        for width in WIDTHS
    )
    around = folder / f"{scheme}.html"
    around.write_text(f"<!doctype html><meta charset=utf-8><body>{frames}<script>{MEASURE}</script>", encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--dump-dom"]
    command += [f"--user-data-dir={folder / scheme}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += [f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", "--window-size=1300,900", around.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    written = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert written, done.stderr[-2000:]
    return json.loads(html.unescape(written[1]))
