"""The one error of this package."""


class SetupError(Exception):
    """Something the person at the keyboard can put right; its text is shown as it is, without a traceback."""
