"""The exclusion in a plane as one page to explore: hover, click, switch curves on and off.

The page is one file without any request to a network: it holds Plotly, the figure, and what is
known of every point. Names and words in it come from archives and analysis files; they are escaped,
or written by the page's script as text, and no script but the page's own two can run in it.
"""

from palletfit.pages.interactive.page import render
from palletfit.pages.interactive.points import details

__all__ = ["details", "render"]
