"""Settings, plug-ins and recipes as values; errors. Imports nothing of the package."""
