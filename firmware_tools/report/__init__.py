"""Reports: one self-contained HTML page of what a verb found."""
