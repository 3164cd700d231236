"""Plain TCP on one side, mutual TLS on the other: for clients that speak no TLS.

usage: pipe.py ROOT PLANE_PORT CLIENT_ID=NAME... ; the last NAME is for every other client identifier.
Shows NAME.pem with NAME.key. Prints the port it listens on. Ends with its standard input.
"""

import asyncio, ssl, sys, threading, os

root, plane = sys.argv[1], int(sys.argv[2])
shown = dict(pair.split("=", 1) for pair in sys.argv[3:])
otherwise = list(shown.values())[-1]


def context(name):
    made = ssl.create_default_context(cafile=root)
    made.load_cert_chain(name + ".pem", name + ".key")
    return made


contexts = {name: context(name) for name in set(shown.values())}


def client_id(packet):
    """Of a whole CONNECT, or None."""
    at, length, shift = 1, 0, 0
    while True:
        byte = packet[at]
        at, length, shift = at + 1, length | (byte & 127) << shift, shift + 7
        if byte < 128:
            break
    body = packet[at:]
    name = int.from_bytes(body[:2], "big")
    level, at = body[2 + name], 2 + name + 4
    if level == 5:
        properties, shift = 0, 0
        while True:
            byte = body[at]
            at, properties, shift = at + 1, properties | (byte & 127) << shift, shift + 7
            if byte < 128:
                break
        at += properties
    return body[at + 2 : at + 2 + int.from_bytes(body[at : at + 2], "big")].decode()


async def copy(reader, writer):
    """All that comes, also what the other side no longer takes: a client that is still sending reads
    on to the word with which it was closed."""
    takes = True
    try:
        while data := await reader.read(65536):
            try:
                if takes:
                    writer.write(data)
                    await writer.drain()
            except (ConnectionError, ssl.SSLError, RuntimeError):
                takes = False
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()
    except (ConnectionError, ssl.SSLError, OSError):
        writer.close()


async def serve(reader, writer):
    first = await reader.read(65536)
    if not first:
        return writer.close()
    try:
        name = shown.get(client_id(first), otherwise)
    except (IndexError, UnicodeDecodeError):
        name = otherwise
    far_reader, far_writer = await asyncio.open_connection(
        "127.0.0.1", plane, ssl=contexts[name], server_hostname="localhost"
    )
    far_writer.write(first)
    await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))
    writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
asyncio.run(main())
