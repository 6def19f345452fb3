"""What cannot be adapted."""

from firmware_tools.errors import UserError


class AdaptationError(UserError):
    """A network, its images or its labels cannot be used; the text says what would be right."""
