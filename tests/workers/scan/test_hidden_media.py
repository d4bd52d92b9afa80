"""What hides in clips and pictures: samples named many times, frames beyond the picture, words between frames."""

from pathlib import Path

import pytest

from tests.support.corpus import asked
from tests.support.corpus_clips import HOSTILE, Canary
from workers.scan.examine import examine
from workers.scan.refusals import UnreadableFile


def test_a_picture_that_is_named_hundreds_of_times_does_not_become_a_huge_copy(tmp_path: Path) -> None:
    HOSTILE["one picture named 400 times"].write(tmp_path / "clip", Canary(path=tmp_path / "other", url=""))
    data = (tmp_path / "clip").read_bytes()
    question = asked(tmp_path, data, "video/mp4")
    with pytest.raises(UnreadableFile):
        examine(question)
    assert sum(path.stat().st_size for path in question.folder.iterdir() if path.suffix == ".mp4") <= 2 * len(data)
