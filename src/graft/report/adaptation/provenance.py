"""Where text came from, in one sentence: what is said of a source is said of that text and of no other."""

from __future__ import annotations

from graft.report.adaptation.facts import Materials

EMBEDDED, HUB = "embedded:", "hf://"


def provenance(source: str, materials: Materials) -> str:
    """given files, data sets of the hub, text that ships with the installation, or text sampled from the base."""
    docs = next((one for one in materials.lineage if one.kind == "docs" and one.facts["source"] == source), None)
    if docs and "sampled" in docs.facts:
        drawn, how = docs.facts["sampled"], docs.manifest["settings"]
        nucleus = f", top_p {how['top_p']:g}" if how["top_p"] < 1 else ""
        return (
            f"sampled from the base: {drawn['tokens']:,} tokens, temperature {how['temperature']:g}{nucleus}, "
            f"seed {how['seed']}"
        )
    paths = materials.paths[source]
    kinds = {
        "given files": [path for path in paths if not path.startswith((EMBEDDED, HUB))],
        "data set of the hub": [path for path in paths if path.startswith(HUB)],
        "embedded text of installed Python packages": [path for path in paths if path.startswith(EMBEDDED)],
    }
    return "; ".join(f"{kind}: {', '.join(named)}" for kind, named in kinds.items() if named)
