"""What encoders write about themselves is blanked in its place, and everything else stays as it was."""

import pytest

from workers.craft.traces import Units, is_free_format, mp3_frame_bytes, without_comment

AVCC = b"\x01\x42\x00\x1e\xff\xe1\x00\x01\x67\x01\x00\x01\x68"
UUID = bytes(range(16))


def packet(*units: bytes) -> memoryview:
    """Return units with their lengths before them."""
    return memoryview(bytearray(b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)))


def message(kind: int, payload: bytes) -> bytes:
    """Return a SEI message."""
    sizes = b"\xff" * (len(payload) // 255) + bytes([len(payload) % 255])
    return bytes([kind]) + sizes + payload


def blanked(*units: bytes, codec: str = "h264", parameters: bytes = AVCC) -> bytes:
    """Return what becomes of a packet."""
    data = packet(*units)
    Units(codec=codec, parameters=parameters).blank(data)
    return bytes(data)


def test_unregistered_user_data_is_blanked_and_its_neighbours_stay() -> None:
    told = message(5, UUID + b"x264 - core 164" * 40)
    other = message(6, b"\x01\x02")
    slice_ = b"\x65" + told
    expected = packet(b"\x06" + other + message(5, b" " * (16 + 15 * 40)) + other + b"\x80", slice_)
    assert blanked(b"\x06" + other + told + other + b"\x80", slice_) == bytes(expected)


def test_what_guards_zeros_is_not_counted_as_payload() -> None:
    payload = b"\x11\x00\x00\x03\x01\x00\x00\x03\x00\x22"
    unit = b"\x06\x05" + bytes([len(payload) - 2]) + payload + message(6, b"\x01\x02") + b"\x80"
    assert blanked(unit) == bytes(
        packet(b"\x06\x05\x08 \x00\x00\x03 \x00\x00\x03  " + message(6, b"\x01\x02") + b"\x80")
    )


def test_registered_user_data_is_blanked_but_for_subtitles() -> None:
    subtitles = message(4, b"\xb5\x00\x31GA94\x03" + b"\x41\xff" * 4)
    told = message(4, b"\xb5\x00\x31" + b"24.7136")
    expected = packet(b"\x06" + subtitles + message(4, b" " * 10) + b"\x80")
    assert blanked(b"\x06" + subtitles + told + b"\x80") == bytes(expected)


def test_a_message_behind_a_long_one_is_blanked() -> None:
    filler = message(3, b"\x55" * 70_000)
    expected = packet(b"\x06" + filler + message(5, b" " * 32) + b"\x80")
    assert blanked(b"\x06" + filler + message(5, UUID + UUID) + b"\x80") == bytes(expected)


def test_guards_among_the_heads_of_messages_do_not_hide_what_follows() -> None:
    guarded = b"\x06\x00\x00\x03\x03\x01\x55"  # an empty message of kind 0, and then one of kind 3
    expected = packet(guarded + message(5, b" " * 32) + b"\x80")
    assert blanked(guarded + message(5, UUID + UUID) + b"\x80") == bytes(expected)


def test_guarded_zeros_at_either_end_of_a_payload_stay() -> None:
    unit = b"\x06\x05\xff\x00\x00\x03\x01" + b"a" * 252 + b"\x00\x00\x03\x01\x01\x55\x80"
    assert blanked(unit) == bytes(packet(b"\x06\x05\xff\x00\x00\x03 " + b" " * 251 + b" \x00\x00\x03\x01\x01\x55\x80"))


@pytest.mark.parametrize(
    ("head", "size_bytes"),
    [
        ("fffb9064", 417),
        ("fffb9264", 418),
        ("fff36064", 156),
        ("ffe36064", 313),
        ("fffd9064", None),
        ("4c595249", None),
    ],
)
def test_a_frame_of_sound_tells_how_long_it_is(head: str, size_bytes: int | None) -> None:
    assert mp3_frame_bytes(bytes.fromhex(head)) == size_bytes
    assert not is_free_format(bytes.fromhex(head))


def test_a_frame_may_leave_its_length_open() -> None:
    assert is_free_format(bytes.fromhex("fffb0064"))
    assert mp3_frame_bytes(bytes.fromhex("fffb0064")) is None


def test_hevc_is_blanked_in_packets_and_in_its_parameters() -> None:
    unit = b"\x4e\x01" + message(5, UUID + b"x265 (build 199)") + b"\x80"
    clean = b"\x4e\x01" + message(5, b" " * 32) + b"\x80"
    arrays = b"\x02" + b"\xa0\x00\x01\x00\x02\x40\x01" + b"\xa7\x00\x01" + len(unit).to_bytes(2, "big")
    parameters = b"\x01" + bytes(20) + b"\x03" + arrays + unit
    assert blanked(unit, codec="hevc", parameters=parameters) == bytes(packet(clean))
    units = Units(codec="hevc", parameters=parameters)
    assert units.blanked(parameters) == parameters[: -len(unit)] + clean


@pytest.mark.parametrize(
    "unit", [b"\x06", b"\x06\x05", b"\x06\x05\xff", b"\x06\x05\xff\xff\xff\xff", b"\x06\x05\x20" + UUID]
)
def test_messages_that_are_cut_off_do_no_harm(unit: bytes) -> None:
    assert len(blanked(unit)) == len(unit) + 4


def test_lengths_that_lie_do_no_harm() -> None:
    data = memoryview(bytearray(b"\xff\xff\xff\xff\x06\x05\x01x"))
    Units(codec="h264", parameters=AVCC).blank(data)
    assert bytes(data) == b"\xff\xff\xff\xff\x06\x05\x01x"
    Units(codec="h264", parameters=b"").blank(data)


def test_a_vorbis_comment_is_emptied() -> None:
    first, last = b"\x01vorbis" + bytes(23), b"\x05vorbis" + bytes(600)
    comment = b"\x03vorbis" + b"secret" * 100
    laced = b"\x02" + bytes([len(first)]) + b"\xff\xff" + bytes([len(comment) - 510]) + first + comment + last
    empty = b"\x03vorbis" + bytes(8) + b"\x01"
    assert without_comment(laced) == b"\x02" + bytes([len(first), len(empty)]) + first + empty + last


@pytest.mark.parametrize("parameters", [b"", b"\x02", b"\x02\xff\xff", b"\x02\x01\x01abc", b"\x01\x01aa"])
def test_what_is_no_vorbis_is_refused(parameters: bytes) -> None:
    with pytest.raises(ValueError, match="no Vorbis headers"):
        without_comment(parameters)
