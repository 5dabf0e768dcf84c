"""The report: a run as one page for people, and its charts for notebooks."""
