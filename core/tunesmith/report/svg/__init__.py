"""Pictures as inline SVG: they need no file, no network and no script, and follow the colours of the page.

Every function returns a ``figure`` as `tunesmith.report.markup.Markup`, with a title, what a screen reader says, and
notes where something was left out.
"""

from tunesmith.report.svg.bars import bars, histogram, rows
from tunesmith.report.svg.lines import Line, Mark, lines
from tunesmith.report.svg.maps import heat, path, spread
from tunesmith.report.svg.scales import number

__all__ = ["Line", "Mark", "bars", "heat", "histogram", "lines", "number", "path", "rows", "spread"]
