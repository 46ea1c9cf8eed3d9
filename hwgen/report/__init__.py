"""Resources of a core, block by block, and what learning adds to inference."""
from . import budgets, changes
from .compare import CYCLE_SAMPLES, NOTE, report
from .page import write
from .resources import count_cells
from .synthesis import synthesize
from .tables import for_terminal as table

__all__ = ["CYCLE_SAMPLES", "NOTE", "budgets", "changes", "count_cells", "report", "synthesize",
           "table", "write"]
