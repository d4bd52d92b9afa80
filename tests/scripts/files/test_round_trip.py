"""Files that go up and come back down: the same bytes, in little memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.scripts.conftest import Pulse
from tests.scripts.files_stand_in import Fault, FilesStandIn


@pytest.mark.usefixtures("hasty", "folder")
@given(
    content=st.binary(min_size=1, max_size=2000).map(lambda seed: seed * 97),
    uploads=st.lists(
        st.builds(Fault, after=st.integers(0, 250_000), how=st.sampled_from(["cut", "silent", 503])), max_size=4
    ),
    downloads=st.lists(
        st.builds(Fault, after=st.integers(0, 250_000), how=st.sampled_from(["cut", 403, 503])), max_size=4
    ),
    ranges=st.booleans(),
)
@examples(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_through_cut_connections_the_same_bytes_come_back(
    pulse: Pulse, api: FilesStandIn, content: bytes, uploads: list[Fault], downloads: list[Fault], ranges: bool
) -> None:
    api.files.clear()
    api.upload_faults[:], api.download_faults[:], api.ranges = uploads, downloads, ranges
    Path("a.txt").write_bytes(content)
    put = pulse("files", "put", "a.txt")
    assert put.exit_code == 0, put.stderr
    [file_id] = api.files
    assert put.stdout.strip() == file_id
    got = pulse("files", "get", file_id, "-o", "b.txt", "--force")
    assert got.exit_code == 0, got.stderr
    assert Path("b.txt").read_bytes() == content
    assert sorted(path.name for path in Path().iterdir()) == ["a.txt", "b.txt"]


_PEAK = """
import sys
from scripts.pulse.__main__ import build
build().main(sys.argv[1:], standalone_mode=False)
[peak] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(peak, file=sys.stderr)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak")
def test_a_large_file_takes_no_more_memory_than_a_small_one(
    api: FilesStandIn, environ: dict[str, str], folder: Path
) -> None:
    def peak_kib(*arguments: str) -> int:
        command = [sys.executable, "-c", _PEAK, "files", *arguments, "--json"]
        path = {**environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(command, env=path, capture_output=True, text=True, check=True)
        return int(done.stderr)

    (folder / "small.mp4").write_bytes(b"x")
    (folder / "large.mp4").write_bytes(bytes(96 * 1024 * 1024))
    small, large = peak_kib("put", "small.mp4"), peak_kib("put", "large.mp4")
    assert large < small + 8 * 1024
    small_id, large_id = api.files
    small, large = peak_kib("get", small_id, "-o", "a"), peak_kib("get", large_id, "-o", "b")
    assert large < small + 8 * 1024
    assert (folder / "b").stat().st_size == 96 * 1024 * 1024
