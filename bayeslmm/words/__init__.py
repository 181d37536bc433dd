"""Results in plain words: what estimates and intervals say, for a reader who is not a statistician."""

from bayeslmm.words.explanation import Explanation
from bayeslmm.words.of_fit import explain_fit
from bayeslmm.words.of_posterior import explain_posterior

__all__ = ["Explanation", "explain_fit", "explain_posterior"]
