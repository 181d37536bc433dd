"""Many models of one table at once: many responses of one formula, or many formulas."""

from bayeslmm.many.result import ManyFits
from bayeslmm.many.run import fit_many

__all__ = ["ManyFits", "fit_many"]
