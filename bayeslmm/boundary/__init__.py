"""What a variance of zero means: tests, and the report."""

from __future__ import annotations

# What `detail=` and `leave_out=` of the report may be.
DETAIL = ("auto", "full", "brief")
OPTIONAL = ("tests", "zero_rate", "posterior", "penalised")
