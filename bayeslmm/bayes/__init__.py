"""The Bayesian engine: priors, the PyMC model, the collapsed posterior. The only place that knows PyMC."""
