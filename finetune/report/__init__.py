"""`result.json` → `report.html`: one file without dependencies, for all screen sizes and for light and dark mode.

Everything is derived from the result. What comes from data is text: Jinja escapes it, and pictures
are drawn from numbers.
"""

from finetune.report.page import REPORT, comparison_page, page, path_to, render_page, write

__all__ = ["REPORT", "comparison_page", "page", "path_to", "render_page", "write"]
