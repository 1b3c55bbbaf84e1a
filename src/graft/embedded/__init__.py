"""What every installation carries, so that the first run needs no network and no data of the user's."""
