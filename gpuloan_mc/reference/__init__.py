"""The model in NumPy, written to be read beside docs/model.md: slow, obvious, exact. Its integers are the meaning."""
