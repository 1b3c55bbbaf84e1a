"""The report as one page: `facts.py` gathers what it says from artifacts, `render.py` makes the HTML."""
