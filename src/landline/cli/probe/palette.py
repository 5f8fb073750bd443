"""The colours of the pictures that are files, each for a light and a dark background.

Every text colour has a contrast of at least 4.5 to 1 with its background (WCAG 2.2, 1.4.3), and no colour tells what
a word or a shape does not tell as well.
"""

from __future__ import annotations

__all__ = ["DARK", "FONT", "LIGHT", "MONO", "STATUS_TONES"]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"

LIGHT = {
    "back": "#ffffff", "card": "#f6f8fa", "edge": "#d1d9e0", "grid": "#e4e8ec", "text": "#1f2328", "dim": "#59636e",
    "lookup": "#0e7490", "won": "#1a7f37", "lost": "#8c959f", "failed": "#cf222e", "silent": "#9a6700",
    "talk": "#0969da", "tls": "#8250df", "good": "#1a7f37", "warning": "#9a6700", "bad": "#cf222e", "on": "#ffffff",
}  # fmt: skip
DARK = {
    "back": "#0d1117", "card": "#151b23", "edge": "#3d444d", "grid": "#262c36", "text": "#e6edf3", "dim": "#9198a1",
    "lookup": "#22b8cf", "won": "#3fb950", "lost": "#6e7681", "failed": "#f85149", "silent": "#d29922",
    "talk": "#58a6ff", "tls": "#bc8cff", "good": "#3fb950", "warning": "#d29922", "bad": "#f85149", "on": "#0d1117",
}  # fmt: skip

STATUS_TONES = {"OK": "good", "WARNING": "warning", "CRITICAL": "bad", "UNKNOWN": "tls"}
