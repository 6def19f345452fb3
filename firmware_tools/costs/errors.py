"""What cannot be priced."""

from firmware_tools.errors import UserError


class CostError(UserError):
    """A device, an array or a network has no price; the text says what would be right."""
