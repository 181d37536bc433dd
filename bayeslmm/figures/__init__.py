"""Figures of a fit alone, which are methods of it; those that compare are in `plots`."""
