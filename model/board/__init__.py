"""Chips on boards with a serial line: which boards, and what is said on the line."""
