"""Publishes by WHIP with GStreamer's webrtcbin: `gstreamer.py URL KEY`, until it is interrupted.

The elements that speak WHIP themselves (whipsink, whipclientsink) are of gst-plugins-rs, which Debian
does not have; its simple-whip-client links two versions of libsoup and stops at once. So the signalling
is here and the media is GStreamer's. Candidates go by PATCH as they are found (RFC 9725 4.3.2). Runs in
the system's Python, which has the bindings.
"""

import signal
import sys
import urllib.request

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

PIPELINE = """
    webrtcbin name=out bundle-policy=max-bundle
    videotestsrc is-live=true pattern=ball ! video/x-raw,width=640,height=360,framerate=25/1
        ! videoconvert ! queue ! vp8enc deadline=1 keyframe-max-dist=25 target-bitrate=600000
        ! rtpvp8pay picture-id-mode=2
        ! application/x-rtp,media=video,encoding-name=VP8,payload=96 ! out.
    audiotestsrc is-live=true wave=sine ! audioconvert ! audioresample ! queue ! opusenc
        ! rtpopuspay ! application/x-rtp,media=audio,encoding-name=OPUS,payload=111 ! out.
"""


class Publisher:
    def __init__(self, url, key):
        self.url, self.key = url, key
        self.session, self.etag, self.offer = None, None, None
        self.waiting = []
        self.pipeline = Gst.parse_launch(PIPELINE)
        self.out = self.pipeline.get_by_name("out")
        self.out.connect("on-negotiation-needed", self.negotiate)
        self.out.connect("on-ice-candidate", self.candidate)
        self.pipeline.set_state(Gst.State.PLAYING)

    def ask(self, method, url, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        headers["Authorization"] = f"Bearer {self.key}"
        data = body.encode() if body is not None else None
        request = urllib.request.Request(url, data, headers, method=method)
        return urllib.request.urlopen(request, timeout=20)

    def negotiate(self, _):
        for at in range(2):
            transceiver = self.out.emit("get-transceiver", at)
            transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
        self.out.emit("create-offer", None, Gst.Promise.new_with_change_func(self.offered, None))

    def offered(self, promise, _):
        # The reply owns the offer.
        promise.wait()
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        self.offer = offer.sdp.as_text()
        self.out.emit("set-local-description", offer, Gst.Promise.new())
        with self.ask("POST", self.url, self.offer, Content_Type="application/sdp") as answer:
            assert answer.status == 201, answer.status
            self.session, self.etag = answer.headers["Location"], answer.headers["ETag"]
            text = answer.read().decode()
        done, sdp = GstSdp.SDPMessage.new_from_text(text)
        assert done == GstSdp.SDPResult.OK, text
        described = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, sdp)
        self.out.emit("set-remote-description", described, Gst.Promise.new())
        print("published", flush=True)
        GLib.idle_add(self.tell)

    def candidate(self, _, section, line):
        self.waiting.append((section, line))
        GLib.idle_add(self.tell)

    def tell(self):
        """Says which candidates were found since."""
        if self.session is None or not self.waiting:
            return False
        found, self.waiting = self.waiting, []
        said = [it for it in self.offer.splitlines() if it.startswith(("a=ice-ufrag", "a=ice-pwd"))]
        mids = [it for it in self.offer.splitlines() if it.startswith("a=mid:")]
        lines = said[:2]
        for section, line in found:
            lines += ["m=video 9 UDP/TLS/RTP/SAVPF 0", mids[section], f"a={line}"]
        piece = "".join(f"{line}\r\n" for line in lines)
        kind = "application/trickle-ice-sdpfrag"
        with self.ask("PATCH", self.session, piece, Content_Type=kind, If_Match=self.etag) as answer:
            print(f"trickled {len(found)} {answer.status}", flush=True)
        return False

    def stop(self):
        if self.session is not None:
            with self.ask("DELETE", self.session) as answer:
                print(f"deleted {answer.status}", flush=True)
        self.pipeline.set_state(Gst.State.NULL)


def main():
    Gst.init(None)
    publisher, loop = Publisher(sys.argv[1], sys.argv[2]), GLib.MainLoop()
    for number in (signal.SIGINT, signal.SIGTERM):
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, loop.quit)
    loop.run()
    publisher.stop()


main()
