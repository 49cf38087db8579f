"""Everything that crosses between the driver and its workers."""
