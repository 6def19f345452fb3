"""What cannot be searched."""

from firmware_tools.errors import UserError


class SearchError(UserError):
    """A space, a method or a file cannot be used; the text says what would be right."""
