"""``python -m landline``: the command, for where its script is not on PATH."""

from __future__ import annotations

from .cli import main

main()
