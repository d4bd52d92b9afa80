"""ClamAV is asked about every byte of a file; without its word no file is kept, and its failures are not the file's."""

import asyncio
import socket
import struct
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support import clamd
from tests.support.clamd import Clamd
from tests.support.corpus import archive, box, branded, eicar
from tests.support.pictured import encoded, photo
from tests.support.serving import free_port
from workers.scan import antivirus
from workers.scan.antivirus import ScannerUnavailable
from workers.scan.refusals import UnscannableFile, VirusFound

# Closing such a connection cuts it (RST) instead of ending it.
CUTTING = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

type Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

INFECTED = {
    "plain text": eicar(),
    "zip": archive({"a.com": eicar()}),
    "zip in a zip": archive({"b.zip": archive({"a.com": eicar()})}),
    "behind a png": encoded(photo(), "PNG") + eicar(),
    "in an mp4": branded(b"isom", b"mp42") + box(b"free", eicar()),
    "in a docx": archive({"[Content_Types].xml": b"<Types/>", "word/vbaProject.bin": eicar()}),
}


@pytest.fixture(scope="module")
def real() -> Generator[Clamd]:
    """A real clamd."""
    program = clamd.found()
    if program is None:
        pytest.skip("there is no clamd, and Debian's package of it cannot be installed here")
    with clamd.running(program) as running:
        yield running


@pytest.fixture
def upload(tmp_path: Path) -> Callable[[bytes], Path]:
    """Writes a file to be looked at."""

    def written(data: bytes) -> Path:
        path = tmp_path / "upload"
        path.write_bytes(data)
        return path

    return written


@asynccontextmanager
async def scripted(script: Script, way: str = "tcp") -> AsyncGenerator[str]:
    """Serve whoever connects by a script; gives the address."""
    if way == "tcp":
        async with await asyncio.start_server(script, "127.0.0.1", 0) as server:
            yield f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        return
    with tempfile.TemporaryDirectory(prefix="pulse-clamd-") as folder:
        async with await asyncio.start_unix_server(script, f"{folder}/sock"):
            yield f"unix://{folder}/sock"


async def streamed(reader: asyncio.StreamReader) -> bytes:
    """Read a stream as clamd does, and return what was in it."""
    assert await reader.readexactly(10) == b"zINSTREAM\0"
    data = b""
    while length := int.from_bytes(await reader.readexactly(4), "big"):
        data += await reader.readexactly(length)
    return data


def answering(answer: bytes) -> Script:
    """Return a script that hears a file out and says this."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await streamed(reader)
        writer.write(answer)
        await writer.drain()
        writer.close()

    return script


@pytest.mark.parametrize("way", ["unix", "tcp"])
@pytest.mark.parametrize(("name", "data"), INFECTED.items(), ids=INFECTED)
async def test_a_virus_is_found_in_every_wrapper(
    real: Clamd, upload: Callable[[bytes], Path], way: str, name: str, data: bytes
) -> None:
    with pytest.raises(VirusFound) as refused:
        await antivirus.scan(getattr(real, way), upload(data))
    assert refused.value.facts == {"signature": f"{clamd.SIGNATURE}.UNOFFICIAL"}


@pytest.mark.parametrize("way", ["unix", "tcp"])
@pytest.mark.parametrize("data", [b"", b"a", encoded(photo(), "PNG"), bytes(1024**2)], ids=range(4))
async def test_what_has_none_passes(real: Clamd, upload: Callable[[bytes], Path], way: str, data: bytes) -> None:
    await antivirus.scan(getattr(real, way), upload(data))


@pytest.mark.parametrize("way", ["unix", "tcp"])
async def test_what_clamd_will_not_read_to_its_end_is_refused(
    real: Clamd, upload: Callable[[bytes], Path], way: str
) -> None:
    for size in (real.most_bytes + 1, 20 * real.most_bytes):
        with pytest.raises(UnscannableFile):
            await antivirus.scan(getattr(real, way), upload(bytes(size)))


async def test_many_files_are_looked_at_at_once(real: Clamd, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(12)]
    for number, path in enumerate(paths):
        path.write_bytes(eicar() if number % 2 else b"clean")
    ends = await asyncio.gather(*(antivirus.scan(real.tcp, path) for path in paths), return_exceptions=True)
    assert [isinstance(end, VirusFound) for end in ends] == [bool(number % 2) for number in range(12)]


@pytest.mark.parametrize("size", [0, 1, 256 * 1024, 256 * 1024 + 1, 3_000_000])
async def test_every_byte_is_sent_in_the_form_that_clamd_reads(upload: Callable[[bytes], Path], size: int) -> None:
    data = bytes(number % 251 for number in range(size))
    heard = list[bytes]()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await streamed(reader))
        writer.write(b"stream: OK\0")
        writer.close()

    async with scripted(script) as address:
        await antivirus.scan(address, upload(data))
    assert heard == [data]


@pytest.mark.parametrize(
    ("answer", "signature"),
    [
        (b"stream: Win.Test.EICAR_HDB-1 FOUND\0", "Win.Test.EICAR_HDB-1"),
        (b"stream: Heuristics.Limits.Exceeded.MaxFileSize FOUND\0", "Heuristics.Limits.Exceeded.MaxFileSize"),
        (b"stream: <script>\x1b[2J\r\n{x} FOUND\0", "_script_2J_x_"),
        (b"stream: " + b"x" * 2000 + b" FOUND\0", "x" * 100),
        ("stream: فيروس FOUND\0".encode(), "_"),
    ],
)
async def test_a_signature_is_told_in_letters_that_hurt_nobody(
    upload: Callable[[bytes], Path], answer: bytes, signature: str
) -> None:
    async with scripted(answering(answer)) as address:
        with pytest.raises(VirusFound) as refused:
            await antivirus.scan(address, upload(b"a"))
    assert refused.value.facts == {"signature": signature}
    assert signature in refused.value.text("ar")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\0",
        b"stream: OK FOUND? no\0",
        b"stream: Can't allocate memory ERROR\0",
        b"UNKNOWN COMMAND\0",
        b"stream: OKAY\0",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\xff\xfe\0",
        b"x" * 100_000,
    ],
    ids=range(9),
)
async def test_what_nobody_understands_is_no_verdict(upload: Callable[[bytes], Path], answer: bytes) -> None:
    async with scripted(answering(answer)) as address:
        with pytest.raises(ScannerUnavailable) as failed:
            await antivirus.scan(address, upload(b"a"))
    assert failed.value.retryable
    assert failed.value.patience == 4


@pytest.mark.parametrize("way", ["unix", "tcp"])
async def test_a_stream_that_is_too_long_is_refused_even_if_the_line_is_cut(
    upload: Callable[[bytes], Path], way: str
) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(100_000)
        writer.write(b"INSTREAM size limit exceeded. ERROR\0")
        await writer.drain()
        writer.transport.abort()

    async with scripted(script, way) as address:
        with pytest.raises(UnscannableFile):
            await antivirus.scan(address, upload(bytes(50_000_000)))


async def test_a_scanner_that_hangs_up_or_hangs_is_unavailable(upload: Callable[[bytes], Path]) -> None:
    over = asyncio.Event()

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(*CUTTING)
        writer.transport.abort()

    async def read_nothing(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await streamed(reader)
        await over.wait()
        writer.close()

    for script in (hang_up, read_nothing, say_nothing):
        async with asyncio.timeout(30), scripted(script) as address:
            with pytest.raises(ScannerUnavailable):
                await antivirus.scan(address, upload(bytes(20_000_000)), patience_s=0.3)
            over.set()
            over.clear()


async def test_a_scanner_that_is_not_there_is_unavailable(upload: Callable[[bytes], Path], tmp_path: Path) -> None:
    for address in (f"tcp://127.0.0.1:{free_port()}", "tcp://nowhere.invalid:3310", f"unix://{tmp_path}/none.sock"):
        with pytest.raises(ScannerUnavailable):
            await antivirus.scan(address, upload(b"a"))


async def test_a_file_that_is_gone_is_no_fault_of_the_scanner(tmp_path: Path) -> None:
    async with scripted(answering(b"stream: OK\0")) as address:
        with pytest.raises(FileNotFoundError):
            await antivirus.scan(address, tmp_path / "gone")


async def test_a_cancelled_look_is_over(upload: Callable[[bytes], Path]) -> None:
    begun = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await streamed(reader)
        begun.set()
        assert await reader.read() == b""
        writer.close()

    async with scripted(script) as address:
        looking = asyncio.create_task(antivirus.scan(address, upload(b"a")))
        await begun.wait()
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
