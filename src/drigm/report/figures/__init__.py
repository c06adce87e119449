"""The figures of reports, and how they look."""
