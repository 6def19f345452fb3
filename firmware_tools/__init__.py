"""What users run: command line, compilers, importers and reports."""
