"""`python -m bench.files.textbook FOLDER PORT`: uploads and downloads as Litestar's manual has them."""

import asyncio
import hashlib
import sys
from pathlib import Path
from typing import Annotated

from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar, get, post
from litestar.datastructures import State, UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import File

_PIECE_BYTES = 1024**2


@post("/upload", request_max_body_size=None)
async def upload(data: Annotated[UploadFile, Body(media_type=RequestEncodingType.MULTI_PART)], state: State) -> str:
    """Write the file to the disk and return its hash."""
    digest = hashlib.sha256()
    with (state.folder / "file").open("wb") as file:
        while piece := await data.read(_PIECE_BYTES):
            await asyncio.to_thread(digest.update, piece)
            await asyncio.to_thread(file.write, piece)
    return digest.hexdigest()


@get("/download")
async def download(state: State) -> File:
    """Send the file."""
    return File(state.folder / "file", filename="file.bin")


def main() -> None:
    """Serve until killed."""
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    app = Litestar([upload, download], state=State({"folder": folder}))
    server = Server(app, address="127.0.0.1", port=port, interface=Interfaces.ASGI, log_enabled=False)
    asyncio.run(server.serve())


if __name__ == "__main__":
    main()
