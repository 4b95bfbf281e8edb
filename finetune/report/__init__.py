"""`result.json` → `report.html`: one file that needs nothing else, for a screen of any size, light or dark.

Everything is derived from the result. What comes from data is text: Jinja escapes it, and pictures
are drawn from numbers.
"""

from finetune.report.page import REPORT, comparison_page, page, write

__all__ = ["REPORT", "comparison_page", "page", "write"]
