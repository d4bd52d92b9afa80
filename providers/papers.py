"""How pictures and files are put before a model, where its vendor takes them in the request itself."""

from base64 import b64encode

from providers.text import kept
from providers.types import Paper, Picture


def data_url(part: Picture | Paper) -> str:
    """Return the bytes as a `data:` URL."""
    return f"data:{part.media_type};base64,{b64encode(part.data).decode()}"


def is_text(paper: Paper) -> bool:
    """Return whether the file is words, which every model can read."""
    return not paper.media_type.startswith("application/pdf")


def words(paper: Paper) -> str:
    """Return a file of words with its name around it, so that the model can tell it from what the user says."""
    name = paper.name.replace('"', "'")
    return f'<file name="{kept(name)}">\n{kept(paper.data.decode(errors="replace"))}\n</file>'
