"""Both halves of a chip together: comparisons and regressions."""
