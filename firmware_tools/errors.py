"""Errors that the command line shows as one line."""


class UserError(Exception):
    """The user asked for something that cannot be done; the text says what would be right."""
