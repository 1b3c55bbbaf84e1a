"""What a job would do, without doing it: `plan` of the whole, `text` of its sources, `cost` of its work, `screen`."""

from graft.planning.plan import forecast as forecast
from graft.planning.screen import show_forecast as show_forecast
