"""Servers on loopback that others run: each does to its visitors what a test says, and counts them."""

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

#: What is done after a request was read; the connection ends with it.
type Script = Callable[[asyncio.StreamWriter], Awaitable[None]]

_DAY = dt.timedelta(days=1)


def answer(body: bytes = b"", *headers: str, status: str = "200 OK") -> bytes:
    """Return an HTTP answer that says how long its body is."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Stranger:
    """One server: who came, what they asked, and for TLS the name that they asked by."""

    def __init__(self, script: Script | bytes) -> None:
        """Answer every request with bytes, or let a script do it."""
        self.script = script
        self.port = 0
        self.visits = 0
        #: What a visitor hears before anything was read of it.
        self.greeting = b""
        self.requests: list[bytes] = []
        self.names: list[str | None] = []
        self._ended = asyncio.Condition()
        self._over = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    @asynccontextmanager
    async def serving(
        cls,
        script: Script | bytes = b"",
        *,
        hosts: Sequence[str] = ("127.0.0.1",),
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncGenerator["Stranger"]:
        """Serve on one port of all `hosts`, by default a free one."""
        stranger = cls(script)
        stranger.port = port
        if tls is not None:
            tls.sni_callback = lambda _socket, name, _context: stranger.names.append(name)
        servers: list[asyncio.Server] = []
        for host in hosts:
            servers.append(await asyncio.start_server(stranger._accept, host, stranger.port, ssl=tls))
            stranger.port = servers[0].sockets[0].getsockname()[1]
        try:
            yield stranger
        finally:
            for server in servers:
                server.close()
            for task in stranger._tasks:
                task.cancel()
            await asyncio.gather(*stranger._tasks, return_exceptions=True)

    async def left(self, count: int) -> None:
        """Wait until so many visits are over, be it that the visitor went away."""
        async with self._ended:
            await self._ended.wait_for(lambda: self._over >= count)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.visits += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                writer.write(self.greeting)
                self.requests.append(await _request(reader))
                await self._answer(reader, writer)
        finally:
            writer.close()
            self._tasks.discard(task)
        async with self._ended:
            self._over += 1
            self._ended.notify_all()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Do what the script says, until the visitor goes."""
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(self._say(writer)), asyncio.create_task(reader.read())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _say(self, writer: asyncio.StreamWriter) -> None:
        if isinstance(self.script, bytes):
            writer.write(self.script)
            await writer.drain()
        else:
            await self.script(writer)


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


class Authority:
    """A certificate authority that only its own tests trust."""

    def __init__(self, folder: Path) -> None:
        """Keep what it makes in `folder`."""
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Tests")])
        builder = self._builder(self._key.public_key(), self._name)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(key_cert_sign=True), critical=True)
        self.certificate = builder.sign(self._key, hashes.SHA256())

    def client(self) -> ssl.SSLContext:
        """Return what trusts it, and nobody else."""
        pem = self.certificate.public_bytes(serialization.Encoding.PEM).decode()
        return ssl.create_default_context(cadata=pem)

    def server(self, name: str, *, days: int = 1) -> ssl.SSLContext:
        """Return what a server needs to be `name`, a host name or an address, for so many days from now on."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(key.public_key(), x509.Name([]), days)
        try:
            subject: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            subject = x509.DNSName(name)
        builder = builder.add_extension(x509.SubjectAlternativeName([subject]), critical=True)
        path = self._folder / f"{name}-{days}.pem"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(path)
        return context

    def _builder(self, key: ec.EllipticCurvePublicKey, subject: x509.Name, days: int = 1) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        ours = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        builder = x509.CertificateBuilder(subject_name=subject, issuer_name=self._name, public_key=key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - 9 * _DAY).not_valid_after(now + days * _DAY)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ours)
        return builder.add_extension(identifier, critical=False)


def _usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
