"""What hides from an examination of documents is found on the whole way, not only where documents are judged."""

from pathlib import Path

import pytest

from tests.support.corpus import asked
from tests.support.corpus_documents import HOSTILE
from workers.scan.examine import examine
from workers.scan.refusals import ActiveContent

HIDDEN = (
    "JavaScript in objects packed behind blanks",
    "JavaScript in packed objects before damage",
    "JavaScript in packed objects beside a name like theirs",
    "JavaScript in packed objects beside an escaped slash",
    "JavaScript in packed objects after a stream in a string",
    "an address that is opened at once, written elsewhere",
    "a program in a field",
    "a program in a field in pieces",
    "a program in a field by a reference",
    "a program in a short field",
    "a picture elsewhere in a field",
    "a program in a sheet",
    "a sheet that asks a server",
    "a program on a slide",
    "a template elsewhere that is said to be a link",
)


@pytest.mark.parametrize("name", HIDDEN)
def test_what_acts_is_found_where_it_hides(name: str, tmp_path: Path) -> None:
    hostile = HOSTILE[name]
    with pytest.raises(ActiveContent):
        examine(asked(tmp_path, hostile.make(), hostile.media_type))
