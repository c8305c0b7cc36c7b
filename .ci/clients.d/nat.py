"""A NAT between a streamer and everybody else, as far as UDP goes.

To the streamer this is its STUN server. Each socket that asks it gets a port out there: what the server says
to that one comes back as from the server, what others send to it comes in at a port for that alone, and what
is answered there leaves by the port out there again.
"""

import socket
import threading


class Mapping:
    """One socket inside, as others see it."""

    def __init__(self, nat, inside):
        self.nat, self.inside, self.peer = nat, inside, None
        self.outer, self.inner = udp(), udp()
        self.port = self.outer.getsockname()[1]
        # Packets of the server, and of others in each direction.
        self.answered, self.came, self.left = 0, 0, 0
        serve(self.outer, self.from_outside)
        serve(self.inner, self.from_inside)

    def from_outside(self, packet, sender):
        if sender == self.nat.server:
            self.answered += 1
            self.nat.socket.sendto(packet, self.inside)
        else:
            self.peer, self.came = sender, self.came + 1
            self.inner.sendto(packet, self.inside)

    def from_inside(self, packet, _):
        if self.peer:
            self.left += 1
            self.outer.sendto(packet, self.peer)


class Nat:
    """The way to a STUN server."""

    def __init__(self, server_port):
        self.server, self.mappings, self.socket = ("127.0.0.1", server_port), {}, udp()
        self.url = f"stun:127.0.0.1:{self.socket.getsockname()[1]}"
        serve(self.socket, self.asks_server)

    def asks_server(self, packet, inside):
        if inside not in self.mappings:
            self.mappings[inside] = Mapping(self, inside)
        self.mappings[inside].outer.sendto(packet, self.server)

    def at(self, port):
        """Whose that port is out there."""
        return next((it for it in list(self.mappings.values()) if it.port == port), None)


def udp():
    it = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    it.bind(("127.0.0.1", 0))
    return it


def serve(it, handle):
    def run():
        while True:
            packet, sender = it.recvfrom(65_535)
            handle(packet, sender)

    threading.Thread(target=run, daemon=True).start()
