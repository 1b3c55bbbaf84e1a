"""The page itself."""
import json
def render_page(facts, *, title):
    return "<pre>"+json.dumps(facts,indent=1)
