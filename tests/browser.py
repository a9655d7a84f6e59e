"""A page as a browser finds it, for tests of what writes pages."""

from __future__ import annotations

import json
from html.parser import HTMLParser


class Page(HTMLParser):
    """What a browser would find: tags with attributes, texts of scripts, and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    def all(self, name: str) -> list[str]:
        return [
            value or "" for _, attrs in self.tags for key, value in attrs.items() if key == name
        ]

    @property
    def figures(self) -> dict:
        return json.loads(self.scripts[0])

    def traces(self, figure: str, label: str | None = None) -> list[dict]:
        """A figure's traces, or those that a reader sees who chooses a method."""
        return [t for t in self.figures[figure]["data"] if label is None or t["meta"] == label]
