"""The documentation site: ``python -m tools.site`` builds it (docs/decisions/documentation-site.md)."""
