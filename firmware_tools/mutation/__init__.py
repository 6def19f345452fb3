"""Mutation score: breaks the RTL in many small ways and counts how many of them a bench notices."""
