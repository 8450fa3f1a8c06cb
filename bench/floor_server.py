"""The least that serves commands over HTTP on a unix socket: what bubblewrap and Python themselves cost.

Run as a script, with the standard library alone: `floor_server.py SOCKET`. It knows one request: POST with a shell
command as the body; the answer is the command's output, streamed until the connection closes. An empty command
proves life. No authentication, no bounds, no ring, no cancellation.
"""

import asyncio
import sys


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one connection."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    command = await reader.readexactly(length)
    writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
    if command:
        process = await asyncio.create_subprocess_exec("sh", "-c", command, stdout=asyncio.subprocess.PIPE)
        assert process.stdout is not None
        while chunk := await process.stdout.read(65536):
            writer.write(chunk)
            await writer.drain()
        await process.wait()
    writer.close()


async def main(path: str) -> None:
    """Listen until killed."""
    server = await asyncio.start_unix_server(serve, path)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
