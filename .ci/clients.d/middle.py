"""Somebody in the middle, made with aiortc: ends both connections and passes all messages on."""

import asyncio
import http.server
import threading
import urllib.request

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from programs import post


class Middle:
    """Counts the messages that passed, and the frames that came from the streamer."""

    def __init__(self, whep):
        self.whep, self.up, self.down, self.frames = whep, 0, 0, 0
        self.peers, self.loop = [], asyncio.get_running_loop()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/whep"

    def _handler(middle):
        class Handler(http.server.BaseHTTPRequestHandler):
            def say(self, status, kind, body):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Location", "/whep/1")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                headers = {"Accept": self.headers.get("Accept", "*/*")}
                with urllib.request.urlopen(urllib.request.Request(middle.whep, headers=headers)) as it:
                    self.say(it.status, it.headers["Content-Type"], it.read())

            def do_POST(self):
                offer = self.rfile.read(int(self.headers["Content-Length"])).decode()
                answer = asyncio.run_coroutine_threadsafe(middle._join(offer), middle.loop)
                self.say(201, "application/sdp", answer.result(30).encode())

            def do_DELETE(self):
                self.say(200, "text/plain", b"")

            def log_message(self, *_):
                pass

        return Handler

    async def _join(self, offer):
        """Connects to the streamer as a viewer, and answers the viewer."""
        own, peer = RTCPeerConnection(), RTCPeerConnection()
        self.peers += [own, peer]
        for kind in ("video", "audio"):
            own.addTransceiver(kind, direction="recvonly")
        own.on("track", lambda track: asyncio.ensure_future(self._read(track)))
        channel = own.createDataChannel("streampay", protocol="streampay/1")
        opened = asyncio.Event()
        channel.on("open", opened.set)
        await own.setLocalDescription(await own.createOffer())
        status, _, answer = await asyncio.to_thread(
            post, self.whep, own.localDescription.sdp, {}
        )
        assert status == 201, f"{status} {answer}"
        await own.setRemoteDescription(RTCSessionDescription(answer, "answer"))

        async def pass_up(said):
            await opened.wait()
            self.up += 1
            channel.send(said)

        def join(viewers):
            def pass_down(said):
                self.down += 1
                viewers.send(said)

            viewers.on("message", lambda said: asyncio.ensure_future(pass_up(said)))
            channel.on("message", pass_down)

        peer.on("datachannel", join)
        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        return peer.localDescription.sdp

    async def _read(self, track):
        try:
            while True:
                await track.recv()
                self.frames += 1
        except MediaStreamError:
            pass

    async def close(self):
        self.server.shutdown()
        for peer in self.peers:
            await peer.close()
