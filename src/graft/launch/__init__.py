"""A job in other processes: kill and resume, several ranks."""
