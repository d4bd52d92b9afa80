"""`pulse files` on a real API with a real scan: put, listed, found by another spelling, got, deleted."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
from PIL import Image

from infra.ground import Ground
from infra.settings import ROOT, Settings
from tests.support.books import assert_even
from tests.support.chats import Client
from tests.support.work import working

NAME = "صورة أحمد ٢٠٢٦.jpg"


async def pulse(client: Client, *arguments: str, language: str = "ar_JO.UTF-8") -> tuple[int, str, str]:
    """Run the command as a person with the client's key does; returns its exit code and what it said."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PULSE_")}
    key = client.headers["authorization"].removeprefix("Bearer ")
    environ |= {"PULSE_URL": str(client.base_url), "PULSE_API_KEY": key, "LC_ALL": language}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.pulse", "files", *arguments),
        cwd=ROOT,
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@pytest.mark.slow
async def test_a_picture_goes_up_and_comes_down_without_where_it_was_taken(
    client: Client, settings: Settings, ground: Ground, tmp_path: Path
) -> None:
    path = tmp_path / NAME
    exif = Image.Exif()
    exif[0x010F] = "Camera-7319"
    Image.new("RGB", (640, 480), (20, 90, 160)).save(path, "JPEG", exif=exif, comment=b"comment-7319")
    page = tmp_path / "صفحة.jpg"
    page.write_bytes(b"<!doctype html><script>alert(1)</script>")
    async with working(settings, "scan", slots=2):
        code, out, err = await pulse(client, "put", str(path), "--folder", "رحلات", "--purpose", "photo")
        assert code == 0, err
        file_id = out.strip()
        code, _, err = await pulse(client, "put", str(page))
        assert (code, "type_mismatch" in err) == (1, True)
        assert "صُرّح" in err
    code, out, _ = await pulse(client, "ls", "--search", "احمد 2026", "--json")
    assert [each["id"] for each in json.loads(out)["files"]] == [file_id]
    code, out, _ = await pulse(client, "ls", "رحلات")
    assert (code, NAME in out) == (0, True)
    copy = tmp_path / "copy.jpg"
    code, _, err = await pulse(client, "get", NAME, "-o", str(copy))
    assert code == 0, err
    assert b"7319" not in copy.read_bytes()
    with Image.open(copy) as picture:
        assert picture.size == (640, 480)
    assert (await pulse(client, "mv", file_id, "غلاف.jpg", "--folder", ""))[0] == 0
    assert (await pulse(client, "rm", file_id, "--yes"))[0] == 0
    code, _, err = await pulse(client, "show", file_id, language="en_US.UTF-8")
    assert (code, "There is no such file" in err) == (1, True)
    await assert_even(ground)
