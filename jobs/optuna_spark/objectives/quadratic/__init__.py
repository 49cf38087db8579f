"""The toy objective `quadratic`."""
