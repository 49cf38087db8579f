"""What happens in the driver of a run: the study in memory, who runs which trial, one writer."""
