"""The cases. Each chooses the contenders to run, and turns their reports into measurements."""
