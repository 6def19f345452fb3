"""Prompts of a frozen vision transformer, and how few of them do (after 2305.17223)."""
