"""Pictures are made anew of their bare pixels: they look as before, and nothing else that was in the file is left."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import blurhash
import pytest
from PIL import Image, ImageChops, ImageCms, ImageSequence, ImageStat
from PIL.JpegImagePlugin import JpegImageFile

from tests.support import mutated, pictured
from tests.support.corpus import archive, asked, eicar
from tests.support.pictured import chunk, encoded, exif, moving, opened, photo
from workers.craft import child, pictures
from workers.scan import pictures as judge
from workers.scan.findings import Findings
from workers.scan.refusals import FileRefused, TooComplex, UnreadableFile

type Judge = Callable[[str, bytes], Findings]
type Remake = Callable[[str, bytes], bytes]

NOTES = b"24.7136N 46.6753E"
COMMENT = b"for your eyes only"
TURNS = {2: (1, 0), 3: (1, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 1), 8: (0, 1)}


@pytest.fixture
def findings(tmp_path: Path) -> Judge:
    """Judges a picture."""

    def judged(media_type: str, data: bytes) -> Findings:
        return judge.examine(asked(tmp_path, data, media_type))

    return judged


@pytest.fixture
def remade(findings: Judge) -> Remake:
    """Judges a picture and returns what is kept of it."""

    def made(media_type: str, data: bytes) -> bytes:
        return findings(media_type, data).path.read_bytes()

    return made


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return how far two pictures are apart, as the mean square of the steps between them."""
    stat = ImageStat.Stat(ImageChops.difference(one.convert("RGBA"), other.convert("RGBA")))
    return sum(stat.sum2) / (4 * one.width * one.height)


def frames(data: bytes) -> list[tuple[bytes, float]]:
    """Return what is seen of a moving picture, and for how long."""
    picture = Image.open(io.BytesIO(data))
    return [
        (frame.convert("RGBA").tobytes(), frame.info.get("duration", 0)) for frame in ImageSequence.Iterator(picture)
    ]


def series(picture: Image.Image) -> list[Image.Image]:
    """Return four frames in which a square crosses a picture."""
    made = [picture.copy() for _ in range(4)]
    for number, frame in enumerate(made):
        frame.paste((200, 10 * number, 0), (10 + 9 * number, 12, 16 + 9 * number, 20))
    return made


def clear(width: int = 320, height: int = 240) -> Image.Image:
    """Return a photograph that is the more transparent the lower one looks."""
    picture = photo(width, height)
    picture.putalpha(Image.linear_gradient("L").resize((width, height)))  # pyright: ignore[reportUnknownMemberType]
    return picture


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("quality", [30, 75, 95])
def test_a_jpeg_neither_grows_nor_changes_visibly(
    remade: Remake, subsampling: str, progressive: bool, quality: int
) -> None:
    data = encoded(photo(), "JPEG", quality=quality, subsampling=subsampling, progressive=progressive)
    kept = remade("image/jpeg", data)
    before, after = (Image.open(io.BytesIO(each)) for each in (data, kept))
    assert isinstance(before, JpegImageFile)
    assert isinstance(after, JpegImageFile)
    assert len(kept) <= len(data) * 1.01
    assert difference(before, after) < 8, "below what an eye sees"
    assert after.quantization == before.quantization
    assert [layer[1:3] for layer in after.layer] == [layer[1:3] for layer in before.layer]
    assert ("progressive" in after.info) == progressive


def test_a_jpeg_that_is_turned_over_is_rounded_in_the_other_direction(remade: Remake) -> None:
    tables = [list(range(1, 65)), list(range(65, 129))]
    data = encoded(photo(), "JPEG", qtables=tables, exif=exif(6))
    kept = Image.open(io.BytesIO(remade("image/jpeg", data)))
    assert isinstance(kept, JpegImageFile)
    over = [[table[column * 8 + row] for row in range(8) for column in range(8)] for table in tables]
    assert [kept.quantization[number] for number in (0, 1)] == over


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_png_keeps_every_pixel_in_its_mode(remade: Remake, mode: str) -> None:
    picture = clear().convert("L" if mode == "I;16" else mode)
    data = encoded(picture.convert(mode), "PNG")
    before, after = opened(data), opened(remade("image/png", data))
    assert (after.mode, after.size) == (mode, before.size)
    assert after.tobytes() == before.tobytes()


def test_a_png_of_two_or_four_bits_a_pixel_keeps_what_is_transparent_in_it(remade: Remake) -> None:
    for depth, packed in ((2, b"\x1b"), (4, b"\x01\x23")):
        pixels = pictured.zlib.compress(b"\0" + packed)
        data = pictured.png(len(packed) * 8 // depth, 1, chunk(b"tRNS", b"\0\2"), depth=depth, pixels=pixels)
        grey = 2 * 255 // (2**depth - 1)
        assert pictured.transparent(opened(remade("image/png", data))) == {(grey, grey, grey)}


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 240, 15))])
def test_a_palette_stays_one_with_its_transparent_colours(remade: Remake, transparency: int | bytes) -> None:
    data = encoded(photo().quantize(16), "PNG", transparency=transparency)
    before, after = opened(data), opened(remade("image/png", data))
    assert after.mode == "P"
    assert after.convert("RGBA").tobytes() == before.convert("RGBA").tobytes()


def test_a_colour_may_stand_for_nothing(remade: Remake) -> None:
    picture = photo()
    data = encoded(picture, "PNG", transparency=picture.getpixel((5, 5)))
    kept = opened(remade("image/png", data))
    assert kept.convert("RGBA").tobytes() == opened(data).convert("RGBA").tobytes()
    assert kept.convert("RGBA").getchannel("A").getextrema() == (0, 255)


def test_a_wide_png_of_colours_becomes_one_of_eight_bits(remade: Remake) -> None:
    pixels = pictured.zlib.compress(b"\0" + bytes.fromhex("ffff 8000 0001 0000 0000 0000"))
    data = pictured.png(2, 1, chunk(b"tRNS", bytes(6)), depth=16, colour=2, pixels=pixels)
    after = opened(remade("image/png", data)).convert("RGBA")
    assert after.tobytes() == bytes([255, 128, 0, 255, 0, 0, 0, 0])


@pytest.mark.parametrize("picture", [photo(), clear()], ids=["opaque", "transparent"])
def test_a_lossless_webp_stays_lossless(remade: Remake, picture: Image.Image) -> None:
    data = encoded(picture, "WEBP", lossless=True)
    kept = remade("image/webp", data)
    assert opened(kept).convert("RGBA").tobytes() == opened(data).convert("RGBA").tobytes()


@pytest.mark.parametrize(("media_type", "kind"), [("image/webp", "WEBP"), ("image/avif", "AVIF")])
@pytest.mark.parametrize("quality", [60, 80, 95])
def test_a_lossy_picture_hardly_grows_and_looks_the_same(
    remade: Remake, media_type: str, kind: str, quality: int
) -> None:
    for picture in (photo(), clear()):
        data = encoded(picture, kind, quality=quality)
        kept = remade(media_type, data)
        assert len(kept) <= len(data) * 1.1
        assert difference(opened(data), opened(kept)) < 60, "30 dB and more, of noise, which is the hardest"
        assert opened(kept).mode == opened(data).mode


@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
@pytest.mark.parametrize("picture", [photo(60, 40), clear(60, 40)], ids=["opaque", "transparent"])
def test_a_moving_gif_moves_as_before(remade: Remake, picture: Image.Image, disposal: int) -> None:
    data = moving("GIF", series(picture), duration=[50, 60, 70, 80], loop=3, disposal=disposal, comment=COMMENT)
    kept = remade("image/gif", data)
    assert frames(kept) == frames(data)
    assert Image.open(io.BytesIO(kept)).info["loop"] == 3
    assert len(kept) <= len(data)


@pytest.mark.parametrize("disposal", [0, 1, 2])
@pytest.mark.parametrize("blend", [0, 1])
@pytest.mark.parametrize("default", [False, True])
def test_a_moving_png_moves_as_before(remade: Remake, disposal: int, blend: int, default: bool) -> None:
    how: dict[str, Any] = {"loop": 2, "disposal": disposal, "blend": blend, "default_image": default}
    data = moving("PNG", series(clear(60, 40)), duration=[50, 60, 70] if default else [50, 60, 70, 80], **how)
    kept = remade("image/png", data)
    assert frames(kept) == frames(data)
    assert Image.open(io.BytesIO(kept)).info["loop"] == 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_moves_through_one_frame_is_not_turned(remade: Remake, kind: str) -> None:
    if kind == "PNG":
        still = encoded(photo(64, 32), "PNG", exif=exif(6))
        control = chunk(b"fcTL", pictured.struct.pack(">IIIIIHHBB", 0, 64, 32, 0, 0, 1, 10, 0, 0))
        data = still[:33] + chunk(b"acTL", pictured.struct.pack(">II", 1, 0)) + control + still[33:]
    else:
        first = moving("WEBP", [photo(64, 32), photo(64, 32)], exif=exif(6))
        end = first.rindex(b"ANMF")
        data = pictured.webp_file(first[12:end] + first[first.index(b"EXIF") :])
    kept = opened(remade(f"image/{kind.lower()}", data))
    assert kept.size == (64, 32)
    assert difference(kept, opened(data)) < 60


def test_a_png_that_only_says_that_it_moves_is_a_still(remade: Remake) -> None:
    still = encoded(photo(64, 32), "PNG", exif=exif(6))
    kept = remade("image/png", still[:33] + chunk(b"acTL", pictured.struct.pack(">II", 1, 0)) + still[33:])
    assert b"acTL" not in kept
    assert opened(kept).size == (32, 64)


def test_a_moving_png_of_a_palette_keeps_it(remade: Remake) -> None:
    first = photo(60, 40).quantize(32)
    data = moving("PNG", [first, *(first.rotate(angle) for angle in (90, 180))], duration=40)
    kept = remade("image/png", data)
    assert opened(kept).mode == "P"
    assert frames(kept) == frames(data)


@pytest.mark.parametrize("how", [{"lossless": True}, {"quality": 90}, {"quality": 90, "allow_mixed": True}], ids=str)
def test_a_moving_webp_moves_as_before(remade: Remake, how: dict[str, Any]) -> None:
    data = moving("WEBP", series(clear(60, 40)), duration=[50, 60, 70, 80], loop=4, **how)
    kept = remade("image/webp", data)
    before, after = frames(data), frames(kept)
    assert [duration for _, duration in after] == [duration for _, duration in before]
    assert Image.open(io.BytesIO(kept)).info["loop"] == 4
    for (one, _), (other, _) in zip(before, after, strict=True):
        apart = difference(Image.frombytes("RGBA", (60, 40), one), Image.frombytes("RGBA", (60, 40), other))
        assert apart == 0 if how.get("lossless") else apart < 60


def test_a_moving_avif_moves_as_before(remade: Remake) -> None:
    data = moving("AVIF", series(photo(64, 48)), duration=[50, 60, 70, 80])
    kept = remade("image/avif", data)
    before, after = frames(data), frames(kept)
    assert [duration for _, duration in after] == [duration for _, duration in before] == [50, 60, 70, 80]
    for (one, _), (other, _) in zip(before, after, strict=True):
        assert difference(Image.frombytes("RGBA", (64, 48), one), Image.frombytes("RGBA", (64, 48), other)) < 60


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_picture_is_turned_upright(findings: Judge, kind: str, orientation: int) -> None:
    picture = Image.new("RGB", (64, 32), "white")
    picture.paste("black", (0, 0, 32, 16))
    data = encoded(picture, kind, quality=90, exif=exif(orientation))
    found = findings(f"image/{kind.lower()}", data)
    upright = opened(found.path.read_bytes()).convert("L")
    assert upright.size == ((64, 32) if orientation < 5 else (32, 64)) == (found.facts["width"], found.facts["height"])
    across, down = TURNS.get(orientation, (0, 0))
    corners = {
        (x, y): pictured.colour(upright, upright.width * (1 + 2 * x) // 4, upright.height * (1 + 2 * y) // 4)
        for x in (0, 1)
        for y in (0, 1)
    }
    assert min(corners, key=lambda corner: corners[corner]) == (across, down)
    assert not upright.getexif()
    (small,) = found.pictures
    assert (small.width, small.height) == upright.size


def _worded(kind: str) -> bytes:
    """Return a picture that says where it was made, in every way in which its format can."""
    words: dict[str, Any] = {"exif": exif(1, place=NOTES), "xmp": b"<x:xmpmeta>" + COMMENT + b"</x:xmpmeta>"}
    if kind == "JPEG":
        data = encoded(photo(), "JPEG", comment=COMMENT, dpi=(300, 300), **words)
        iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0" + len(COMMENT).to_bytes(4, "big") + COMMENT
        segment = b"\xff\xed" + (len(iptc) + 2).to_bytes(2, "big") + iptc
        return data[:2] + segment + data[2:]
    if kind == "PNG":
        text = [chunk(name, b"Comment\0" + COMMENT) for name in (b"tEXt", b"prVt")]
        packed = chunk(b"zTXt", b"Comment\0\0" + pictured.zlib.compress(COMMENT * 3, 0))
        data = encoded(photo(), "PNG", exif=words["exif"])
        return data[:33] + b"".join(text) + packed + data[33:]
    if kind == "GIF":
        return encoded(photo(), "GIF", comment=COMMENT + NOTES)
    return encoded(photo(), kind, **words)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_what_a_picture_tells_about_its_owner_is_gone(remade: Remake, kind: str) -> None:
    data = _worded(kind)
    assert NOTES in data
    assert COMMENT in data
    kept = remade(f"image/{kind.lower()}", data)
    for words in (NOTES, COMMENT, b"Exif", b"xmp", b"8BIM", b"ICC", b"Comment"):
        assert words not in kept
    left = opened(kept)
    assert not left.getexif()
    telling = {"comment", "dpi", "exif", "icc_profile", "photoshop", "xmp", "Comment", "XML:com.adobe.xmp"}
    assert not telling & {*left.info}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(archive({"evil.html": b"<script>alert(document.domain)</script>"}), id="an archive"),
        pytest.param(b"<?php system($_GET['c']); ?>", id="a program"),
        pytest.param(b"*/=1;alert(document.domain)//", id="a script"),
        pytest.param(eicar(), id="a virus"),
    ],
)
def test_what_follows_a_picture_is_no_part_of_it(remade: Remake, kind: str, foreign: bytes) -> None:
    whole = encoded(photo(), kind)
    kept = remade(f"image/{kind.lower()}", whole + foreign)
    assert foreign not in kept
    assert not zipfile.is_zipfile(io.BytesIO(kept))


def test_a_gif_that_is_also_a_script_is_a_gif_only(remade: Remake) -> None:
    small = encoded(photo(47, 42).quantize(8), "GIF", comment=b"*/=1;alert(document.domain);/*")
    width_that_opens_a_comment = b"/*"
    script = small[:6] + width_that_opens_a_comment + small[8:]
    kept = remade("image/gif", script)
    assert b"alert" not in kept
    assert b"*/" not in kept


def test_a_palette_is_no_place_to_hide_in(remade: Remake) -> None:
    picture = Image.new("P", (16, 16), 0)
    picture.putpalette([10, 20, 30, *eicar().ljust(765, b".")])
    for kind in ("PNG", "GIF"):
        data = encoded(picture, kind, optimize=False)
        assert eicar() in data
        kept = remade(f"image/{kind.lower()}", data)
        assert eicar()[:20] not in kept
        assert pictured.colour(opened(kept)) == (10, 20, 30)


def test_a_chunk_that_unpacks_to_gigabytes_is_never_unpacked(remade: Remake) -> None:
    bomb = chunk(b"zTXt", b"bomb\0\0" + pictured.zlib.compress(bytes(200 * 1024**2), 9))
    assert len(remade("image/png", pictured.png(8, 8, bomb))) < 200


def _swapped_profile() -> bytes:
    """Return a profile in which red is what sRGB has as green, and the other way round."""
    made: Any = ImageCms.createProfile("sRGB")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    profile = bytearray(ImageCms.ImageCmsProfile(made).tobytes())
    for at in range(132, 132 + 12 * int.from_bytes(profile[128:132], "big"), 12):
        profile[at : at + 4] = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}.get(
            bytes(profile[at : at + 4]), profile[at : at + 4]
        )
    return bytes(profile).replace("sRGB".encode("utf-16-be"), "RGBs".encode("utf-16-be"))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("JPEG", "RGB"), *((kind, mode) for kind in ("PNG", "WEBP", "AVIF") for mode in ("RGB", "RGBA", "P"))],
)
def test_colours_of_another_profile_become_those_of_srgb(remade: Remake, kind: str, mode: str) -> None:
    picture = Image.new("RGB", (32, 32), (200, 20, 20)).convert(mode)
    data = encoded(picture, kind, quality=95, icc_profile=_swapped_profile())
    kept = opened(remade(f"image/{kind.lower()}", data))
    red, green, _ = pictured.colour(kept)
    assert green > 150
    assert red < 100
    assert "icc_profile" not in kept.info


def test_a_moving_avif_has_its_colours_in_srgb_too(remade: Remake) -> None:
    pictures_ = [Image.new("RGB", (32, 32), colour) for colour in ((200, 30, 20), (30, 20, 200))]
    kept = Image.open(io.BytesIO(remade("image/avif", moving("AVIF", pictures_, icc_profile=_swapped_profile()))))
    shown = [pictured.colour(frame) for frame in ImageSequence.Iterator(kept)]
    assert shown[0] == pytest.approx((30, 200, 20), abs=12)
    assert shown[1] == pytest.approx((20, 30, 200), abs=12)
    assert "icc_profile" not in kept.info


def test_what_is_transparent_by_its_colour_still_is_when_colours_change(remade: Remake) -> None:
    picture = Image.new("RGB", (16, 16), (200, 80, 80))
    picture.paste((60, 200, 90), (0, 0, 4, 4))
    data = encoded(picture, "PNG", icc_profile=_swapped_profile(), transparency=(60, 200, 90))
    kept = opened(remade("image/png", data)).convert("RGBA")
    assert kept.getchannel("A").getbbox() == (0, 0, 16, 16)
    assert kept.getchannel("A").histogram()[0] == 16, "pixels that cannot be seen"
    assert pictured.colour(kept) == pytest.approx((80, 200, 80), abs=2)


@pytest.mark.parametrize("profile", [b"", b"no profile", bytes(5000), _swapped_profile()[:200]], ids=range(4))
def test_a_profile_that_nobody_can_read_has_said_nothing(remade: Remake, profile: bytes) -> None:
    picture = Image.new("RGB", (32, 32), (200, 20, 20))
    kept = opened(remade("image/png", encoded(picture, "PNG", icc_profile=profile)))
    assert kept.tobytes() == picture.tobytes()


def test_what_printers_mix_becomes_what_screens_show(remade: Remake) -> None:
    kept = opened(remade("image/jpeg", encoded(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG")))
    assert kept.mode == "RGB"
    red, green, blue = pictured.colour(kept)
    assert red > 200
    assert max(green, blue) < 60


def test_of_several_pictures_in_a_jpeg_the_first_is_kept(remade: Remake) -> None:
    data = moving("MPO", [photo(), Image.new("RGB", (320, 240), "red")])
    assert b"MPF" in data
    kept = remade("image/jpeg", data)
    assert b"MPF" not in kept
    assert kept.count(b"\xff\xd8\xff") == 1
    assert difference(opened(kept), photo()) < 500


def test_a_thumbnail_is_small_and_a_blurhash_short(findings: Judge) -> None:
    found = findings("image/jpeg", encoded(photo(1500, 1000), "JPEG"))
    (small,) = found.pictures
    assert small.path.read_bytes()[8:12] == b"WEBP"
    assert opened(small.path.read_bytes()).size == (small.width, small.height) == (512, 341)
    assert blurhash.components(found.facts["blurhash"]) == (4, 3)  # pyright: ignore[reportUnknownMemberType]
    assert len(found.facts["blurhash"]) == 28


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_a_thin_picture_has_a_thumbnail_too(findings: Judge, size: tuple[int, int]) -> None:
    found = findings("image/png", pictured.png(*size))
    (small,) = found.pictures
    assert max(small.width, small.height) == min(512, max(size))
    assert min(small.width, small.height) == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_a_thumbnail_can_be_made_in_every_mode(tmp_path: Path, mode: str) -> None:
    picture = clear().convert("L" if mode == "I;16" else mode).convert(mode)
    assert pictures.thumbnail(picture, tmp_path / "small.webp", edge=100) == (100, 75)
    small = opened((tmp_path / "small.webp").read_bytes())
    assert small.mode == ("RGBA" if mode in {"LA", "RGBA", "P"} else "RGB")
    assert len(pictures.blurhash(picture)) == 28


def test_grey_of_sixteen_bits_is_not_cut_off_in_its_thumbnail(tmp_path: Path) -> None:
    pictures.thumbnail(Image.new("I;16", (64, 64), 0x8000), tmp_path / "small.webp")
    assert 126 <= pictured.colour(opened((tmp_path / "small.webp").read_bytes()))[0] <= 130


def test_a_failure_to_write_is_no_fault_of_the_picture(tmp_path: Path) -> None:
    given = asked(tmp_path, encoded(photo(), "PNG"), "image/png")
    (given.folder / "clean.png").mkdir()
    with pytest.raises(IsADirectoryError):
        judge.examine(given)


def test_an_encoder_without_memory_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def starve(*_arguments: object) -> None:
        raise ValueError("encoding error 1")

    given = asked(tmp_path, encoded(photo(), "WEBP"), "image/webp")
    monkeypatch.setattr("PIL._webp.WebPEncode", starve)
    with pytest.raises(MemoryError):
        judge.examine(given)


async def test_damaged_pictures_are_refused_or_kept_and_nothing_else_comes_of_them(tmp_path: Path) -> None:
    ends = await child.run(mutated.remake, 20_261_126, 40, tmp_path)
    assert sum(ends.values()) == 40 * 15
    assert ends["kept"] > 50
    assert ends["unreadable_file"] > 50
    assert set(ends) <= {"kept", "unreadable_file", "too_many_pixels", "too_many_frames", "too_complex"}


def test_a_refusal_is_told_with_its_numbers(findings: Judge) -> None:
    with pytest.raises(FileRefused) as refused:
        findings("image/png", pictured.png(12_000, 12_000))
    assert "12000 x 12000" in refused.value.text("en")
    assert "40" in refused.value.text("ar")
    with pytest.raises(TooComplex):
        findings("image/jpeg", pictured.scans(2000, 2000, 5000))
    with pytest.raises(UnreadableFile) as damaged:
        findings("image/gif", b"GIF89a")
    assert damaged.value.facts == {"media_type": "image/gif"}
