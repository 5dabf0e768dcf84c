"""Loss distributions of loans secured by GPUs: prices, tenants, borrowers and fire sales in one simulation."""

__version__ = "0.1.0"
