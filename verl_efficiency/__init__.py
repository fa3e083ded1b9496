"""Train reasoning models to spend fewer tokens at the same accuracy, on stock veRL and OpenRLHF."""

__version__ = "0.1.0"
