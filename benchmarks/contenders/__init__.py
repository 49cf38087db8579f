"""Programs that are measured, each run as a process of its own; they write what they measured with `report`."""
