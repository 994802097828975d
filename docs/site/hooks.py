"""What the site does to the pages, which are written to be read in the repository as well.

The project's own README and changelog become pages. Links to files that are no pages, such as tests,
become the names of those files.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).parents[2]

PAGES = {
    "README.md": "project.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "LICENSE": None,
}
"""Files of the project's root, and what they are called here; None for what is no page."""

_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are not in the docs folder, and the colours of code."""
    files.append(File.generated(config, "code.css", content=HtmlFormatter().get_style_defs(".highlight")))
    for name, page in PAGES.items():
        if page is not None:
            files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Page, files: Files, **_: object) -> str:
    """Lead links to where the pages are here."""
    is_of_the_root = page.file.src_uri in PAGES.values()
    if is_of_the_root:
        markdown = markdown.replace("](docs/", "](")
    folder = Path(page.file.src_uri).parent

    def lead(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target:
            return match[0]
        name = target.removeprefix("../")
        if name in PAGES and (target != name or is_of_the_root):
            return f"[{text}]({PAGES[name]}{anchor})" if PAGES[name] else text
        if files.get_file_from_path((folder / target).as_posix()) is None:
            return text if text.startswith("`") else f"`{text}`"
        return match[0]

    return _LINK.sub(lead, markdown)
