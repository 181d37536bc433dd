"""The shrinkage explorer: one page on which the two inferences of a balanced model follow sliders."""

from bayeslmm.explorer.explore import Explorer, explore

__all__ = ["Explorer", "explore"]
