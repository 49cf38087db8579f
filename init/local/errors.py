"""The one error of this package."""


class SetupError(Exception):
    """An error that the person at the terminal can put right. Its text is shown as it is, without a traceback."""
