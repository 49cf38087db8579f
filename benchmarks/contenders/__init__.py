"""The programs that are measured. Each runs as a process of its own, and writes its result with `report`."""
