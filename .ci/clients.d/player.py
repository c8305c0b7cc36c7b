"""A WHEP player made with aiortc."""

import asyncio

from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from programs import post


class Player:
    """Counts the pictures that it has decoded."""

    def __init__(self):
        self.frames, self.sizes, self.tasks = 0, set(), []
        self.peer = RTCPeerConnection()
        for kind in ("video", "audio"):
            self.peer.addTransceiver(kind, direction="recvonly")
        self.peer.on("track", lambda track: self.tasks.append(asyncio.ensure_future(self._read(track))))

    async def _read(self, track):
        try:
            while True:
                frame = await track.recv()
                if track.kind == "video":
                    self.frames += 1
                    self.sizes.add((frame.width, frame.height))
        except MediaStreamError:
            pass

    async def offer(self):
        await self.peer.setLocalDescription(await self.peer.createOffer())
        return self.peer.localDescription.sdp

    async def play(self, url, offer, token, hears=lambda answer: answer):
        """Pays with the offer, and takes what it `hears` of the answer; gives the connection's address."""
        status, headers, answer = await asyncio.to_thread(post, url, offer, {"X-Cashu": token})
        assert status == 201, f"{status} {answer}"
        await self.peer.setRemoteDescription(RTCSessionDescription(hears(answer), "answer"))
        return headers["Location"]

    async def stands_still(self, quiet=2.0):
        """The number of pictures once none has come for so long."""
        last = -1
        while last != self.frames:
            last = self.frames
            await asyncio.sleep(quiet)
        return last

    async def close(self):
        await self.peer.close()
        for task in self.tasks:
            task.cancel()
