"""Which trial runs where and which comes next: the study in memory, the budget, the dispatcher."""
