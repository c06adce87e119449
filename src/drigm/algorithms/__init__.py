"""From replayed windows to better parameters: factorizations, uncertainty sets, targets, one update."""
