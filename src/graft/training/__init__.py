"""The one loop, the settings of a run, and what it minimises."""
