"""Tables of finished runs, from files to trials."""
