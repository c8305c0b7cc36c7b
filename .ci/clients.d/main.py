"""Runs the clients one after another. Any assertion that does not hold ends the run."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time

import imageio_ffmpeg

from browser import Browser
from middle import Middle
from nat import Nat
from player import Player
from programs import Programs, free_port, post, until

PRICE, SPAN_S, FPS = "2sat/2s", 2, 25
# Of Chromium's pretended camera.
CAMERA_FPS = 20
FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
CLIP = os.path.join(os.path.dirname(__file__), "../../examples/assets/clip.ivf")


def whep_of(link):
    return link.split("#")[0]


def decoded(path):
    """Pictures and sound that a decoder which is not ours finds in a file."""
    done = subprocess.run(
        [FFMPEG, "-hide_banner", "-i", path, "-f", "null", "-"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    inputs = done.stderr.split("Output #")[0]
    kinds = set(re.findall(r"Stream #.*?: (Video|Audio): (\w+)", inputs))
    frames = re.findall(r"frame=\s*(\d+)", done.stderr)
    return int(frames[-1]) if frames else 0, kinds, done.stderr


def ffmpeg_publishes(programs, whip, key, codec):
    return programs.start(
        "ffmpeg-" + ("".join(filter(str.isalnum, key))[:6]),
        FFMPEG, "-hide_banner", "-loglevel", "warning", "-re",
        "-f", "lavfi", "-i", f"testsrc2=size=640x360:rate={FPS}",
        "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
        *codec, "-c:a", "libopus", "-ac", "2", "-ar", "48000", "-b:a", "64k",
        "-f", "whip", "-authorization", key, whip,
    )


H264 = (
    "-c:v libx264 -profile:v baseline -preset ultrafast -tune zerolatency -pix_fmt yuv420p "
    f"-bf 0 -g {FPS} -b:v 800k"
).split()


def demand_of(url, offer):
    status, headers, _ = post(url, offer, {})
    assert status == 402, status
    return headers["X-Cashu"]


async def plays_one_span(programs, mint, link):
    url, player = whep_of(link), Player()
    offer = await player.offer()
    await player.play(url, offer, programs.token(mint, demand_of(url, offer)))
    frames = await player.stands_still()
    await player.close()
    assert 0.5 * SPAN_S * FPS <= frames <= (SPAN_S + 0.2) * FPS, frames
    return frames


def with_rtp(programs, mint, out):
    """RTP over UDP, by the SDP file that ffmpeg writes."""
    video, audio, sdp = free_port(), free_port(), programs.data("in.sdp")
    publisher = programs.start(
        "ffmpeg-rtp",
        *(FFMPEG, "-hide_banner", "-loglevel", "warning", "-re"),
        *("-f", "lavfi", "-i", f"testsrc2=size=640x360:rate={FPS}"),
        *("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"),
        *("-map", "0:v", *H264, "-f", "rtp", f"rtp://127.0.0.1:{video}"),
        *("-map", "1:a", "-c:a", "libopus", "-ac", "2", "-f", "rtp", f"rtp://127.0.0.1:{audio}"),
        *("-sdp_file", sdp),
    )

    def written():
        try:
            with open(sdp, encoding="utf-8") as file:
                return file.read().count("m=") == 2
        except FileNotFoundError:
            return False

    until("ffmpeg's SDP file", written)
    streamer, link = programs.serve_from("streamer-rtp", mint, PRICE, "--rtp", sdp)
    frames, kinds = ours_watches(programs, link, out, "rtp.mkv", FPS)
    print(f"ffmpeg by RTP (H.264) to our viewer: {frames} pictures in its recording, {sorted(kinds)}")
    publisher.stop()
    streamer.stop()


def through_turn(programs, mint):
    """A streamer that is reached by its TURN server alone."""
    server, turn, env = programs.turn()
    streamer, link, whip, key = programs.serve(
        "streamer-turn", mint, PRICE, "--turn", turn, "--relay-only", env=env
    )
    publisher = ffmpeg_publishes(programs, whip, key, H264)
    assert streamer.event("live")["live"]
    frames = asyncio.run(plays_one_span(programs, mint, link))

    # What coturn passed on to peers and got from them, in bytes, once allocations are released.
    def passed_on():
        usage = [it for it in server.lines if "peer usage" in it]
        sent = sum(int(it) for it in re.findall(r" sb=(\d+)", " ".join(usage)))
        return sent if sent > 100_000 else None

    sent = until("the media to have gone through coturn", passed_on)
    publisher.stop()
    streamer.stop()
    print(f"ffmpeg (H.264) to aiortc through coturn alone: {frames} pictures for one span, "
          f"{sent} bytes")


def by_stun(programs, mint):
    """A streamer behind a NAT, that learns by STUN where others reach it."""
    _, port = programs.stun()
    nat = Nat(port)
    streamer, link = programs.serve_from(
        "streamer-stun", mint, PRICE, "--media", CLIP, "--media-bind", "127.0.0.1", "--stun", nat.url
    )
    frames, mapping = asyncio.run(plays_behind_nat(programs, mint, link, nat))
    assert mapping.answered >= 1, "coturn was not asked"
    # As many as there are pictures, at the least, and the other side's reports.
    assert mapping.left >= frames and mapping.came >= 1, vars(mapping)
    streamer.stop()
    print(f"aiortc to a streamer behind a NAT, at the address that coturn told it: {frames} pictures for one "
          f"span, {mapping.left} packets")


async def plays_behind_nat(programs, mint, link, nat):
    """Neither side hears any other address of the other than the one that STUN found."""
    url, player, found = whep_of(link), Player(), []
    offer = await player.offer()
    offer = "".join(it for it in offer.splitlines(True) if not it.startswith("a=candidate"))

    def reflexive(answer):
        lines = answer.splitlines(True)
        found.extend(it for it in lines if it.startswith("a=candidate") and " typ srflx " in it)
        return "".join(it for it in lines if not it.startswith("a=candidate") or it in found)

    await player.play(url, offer, programs.token(mint, demand_of(url, offer)), reflexive)
    assert found, "no candidate by STUN"
    address, port = found[0].split()[4:6]
    mapping = nat.at(int(port))
    assert address == "127.0.0.1" and mapping, found
    frames = await player.stands_still()
    await player.close()
    assert 0.5 * SPAN_S * FPS <= frames <= (SPAN_S + 0.2) * FPS, frames
    return frames, mapping


async def aiortc_plays(programs, mint, link):
    """402, a payment, a span, nothing more; then more is paid."""
    url, player = whep_of(link), Player()
    offer = await player.offer()
    demand = demand_of(url, offer)
    token = programs.token(mint, demand)
    connection = await player.play(url, offer, token)
    first = await player.stands_still()
    most = (SPAN_S + 0.2) * FPS
    assert 0.5 * SPAN_S * FPS <= first <= most, f"{first} pictures for one span of {SPAN_S} s"
    status, _, _ = post(connection, "", {"X-Cashu": token})
    assert status == 400, "the same token twice"
    status, _, _ = post(connection, "", {"X-Cashu": programs.token(mint, demand)})
    assert status == 204, status
    both = await player.stands_still()
    assert first + 0.5 * SPAN_S * FPS <= both <= 2 * most, f"{first}, then {both}"
    await player.close()
    return first, both, player.sizes


def ours_watches(programs, link, out, name, fps):
    """The session's viewer, which pays tick by tick and records. All publishers here have sound."""
    path = os.path.join(out, name)
    # Until the budget is used up, which is what 3 says.
    args = ("--budget", "16sat", "--yes", "--json", "--record", path)
    said = programs.viewer("watch", link, *args, codes=(3,))
    summary = [json.loads(line) for line in said.splitlines()][-1]
    assert summary["paid_msat"] >= 12_000, summary
    frames, kinds, log = decoded(path)
    # 2 sat buy 2 s; a key frame may be waited for.
    expected = summary["paid_msat"] / 1000 * fps
    assert 0.7 * expected <= frames <= 1.05 * expected, f"{frames} of {expected} pictures\n{log}"
    assert ("Audio", "opus") in kinds, f"{kinds}\n{log}"
    return frames, kinds


def chromium_plays(programs, browser, mint, link, out):
    url, tab = whep_of(link), browser.open()
    answer = tab.do("watch", url, None)
    # So there is no connection yet; one that is open and unpaid is in `chromium_pays_by_session`.
    assert answer["status"] == 402 and answer["demand"], answer
    token = programs.token(mint, answer["demand"])
    start = time.monotonic()
    answer = tab.do("watch", url, token)
    assert answer["status"] == 201, answer
    until("a picture", lambda: tab.stats()["frames"] > 0)
    first_picture = time.monotonic() - start
    until("more pictures", lambda: tab.stats()["frames"] >= FPS / 2)
    codec = tab.stats()["codec"].split("/")[-1]
    tab.screenshot(os.path.join(out, f"chromium-{codec}.png"))
    time.sleep(SPAN_S + 1)
    after = tab.stats()
    most = (SPAN_S + 0.2) * 30
    assert 0.4 * SPAN_S * FPS <= after["frames"] <= most, after
    assert after["width"] == 640 and after["shown"] > 0, after
    time.sleep(1)
    later = tab.stats()
    # It is closed ten seconds after the last packet.
    assert later["state"] == "connected", later
    assert later["packets"] == after["packets"], f"packets that nobody paid for: {after} {later}"
    assert (after["lost"], after["nacks"]) == (0, 0), after
    return after, first_picture


def chromium_pays_by_session(programs, mint, browser, out):
    """Our own page: Chromium has the connection with its data channel, our viewer the money."""
    streamer, link = programs.serve_from("streamer-page", mint, PRICE, "--media", CLIP)
    budget = ("--budget", "16sat", "--yes", "--json", "--browser")
    viewer = programs.start(
        "viewer-page", programs.path("viewer"), "--data", programs.data("viewer"),
        "watch", link, *budget,
    )
    tab = browser.open(viewer.event("page")["url"], "join")
    tab.run("join()")
    time.sleep(2)
    before = tab.stats()
    assert before["state"] == "connected", before
    assert (before["frames"], before["packets"]) == (0, 0), before
    assert not viewer.events("bound"), "nobody paid yet"
    start = time.monotonic()
    tab.run("pay()")
    until("a picture", lambda: tab.stats()["frames"] > 0)
    first_picture = time.monotonic() - start
    until("more pictures", lambda: tab.stats()["frames"] >= FPS)
    tab.screenshot(os.path.join(out, "page.png"))
    # Until the budget is used up, which is what 3 says; the connection ends with it.
    last = tab.stats()

    def over():
        nonlocal last
        now = tab.stats()
        last = now if now["packets"] >= last["packets"] else last
        return viewer.process.poll() is not None

    until("the budget to be used up", over, 60)
    assert viewer.process.returncode == 3, viewer.process.returncode
    summary = viewer.event("summary")
    # 2 sat buy 2 s.
    most = summary["acknowledged_msat"] / 1000 * FPS
    assert summary["ticks"] >= 3 and summary["packets"] > 0, summary
    assert 0.6 * most <= last["frames"] <= most + 0.2 * FPS, (last, summary)
    assert last["width"] > 0 and last["shown"] > 0, last
    assert (last["lost"], last["nacks"]) == (0, 0), last
    gone = streamer.event("viewer_gone")
    assert gone["media_ms"] <= summary["acknowledged_msat"], (gone, summary)
    assert abs(gone["media_ms"] - summary["media_ms"]) <= 1_000, (gone, summary)
    streamer.stop()
    print(f"our page in Chromium, paid by our viewer over the data channel: 0 packets unpaid, "
          f"{last['frames']} pictures ({last['codec']}) for {summary['ticks']} ticks, the first "
          f"{first_picture * 1000:.0f} ms after the session began; counted {summary['media_ms']} ms "
          f"there, {gone['media_ms']} ms here")


async def nothing_for_the_middle(programs, mint):
    """A viewer whose link leads to somebody who passes everything on."""
    streamer, link = programs.serve_from("streamer-middle", mint, PRICE, "--media", CLIP)
    middle = Middle(whep_of(link))
    through = link.replace(whep_of(link), middle.url)
    args = ("--budget", "16sat", "--yes", "--json", "--record", programs.data("middle.webm"))
    said = await asyncio.to_thread(programs.viewer, "watch", through, *args, codes=(1,))
    events = [json.loads(line) for line in said.splitlines()]
    summary = events[-1]
    assert (summary["ticks"], summary["paid_msat"], summary["packets"]) == (0, 0, 0), summary
    assert not [it for it in events if it["event"] == "bound"], events
    # The hello and the welcome passed, so that it is the binding that failed.
    assert (middle.up >= 1, middle.down >= 1, middle.frames) == (True, True, 0), vars(middle)
    gone = streamer.event("viewer_gone")
    assert (gone["media_ms"], gone["video_packets"], gone["audio_packets"]) == (0, 0, 0), gone
    assert not streamer.events("bound"), "the streamer bound it"
    await middle.close()
    streamer.stop()
    print(f"somebody in the middle (aiortc): {middle.up} messages up, {middle.down} down, not bound "
          "at either side, 0 ticks, 0 packets")


def into_a_player(programs, mint):
    """`viewer watch --out -` into a decoder that is not ours, which quits; nothing is paid after that."""
    streamer, link = programs.serve_from("streamer-pipe", mint, PRICE, "--media", CLIP)
    args = ("watch", link, "--budget", "60sat", "--yes", "--out", "-")
    command = [programs.path("viewer"), "--data", programs.data("viewer"), *args]
    quits_after = 4
    with open(os.path.join(programs.out, "viewer-pipe.log"), "w", encoding="utf-8") as log:
        viewer = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
        )
        try:
            done = subprocess.run(
                [FFMPEG, "-hide_banner", "-i", "pipe:0", "-t", str(quits_after), "-f", "null", "-"],
                stdin=viewer.stdout, capture_output=True, text=True, timeout=60, check=False,
            )
            viewer.stdout.close()
            code = viewer.wait(30)
        finally:
            viewer.kill()
    frames = re.findall(r"frame=\s*(\d+)", done.stderr)
    assert done.returncode == 0 and frames, done.stderr
    assert code == 0, f"the viewer ended with {code}"
    gone = streamer.event("viewer_gone")
    assert abs(int(frames[-1]) - quits_after * FPS) <= 2, frames
    # What had come when the decoder quit, a tick ahead and what was on its way.
    assert gone["media_ms"] <= (quits_after + 2 * SPAN_S + 1) * 1000, gone
    streamer.stop()
    print(f"our viewer into ffmpeg through a pipe: {frames[-1]} pictures until that quit, and {gone['media_ms']} "
          "ms sent in all")


def with_ffmpeg(programs, mint, browser, out):
    streamed, began = os.path.join(out, "streamed.mkv"), time.monotonic()
    streamer, link, whip, key = programs.serve(
        "streamer-ffmpeg", mint, PRICE, "--record", streamed
    )
    wrong = ffmpeg_publishes(programs, whip, "wrong" * 5, H264)
    until("ffmpeg with a wrong key to give up", lambda: wrong.process.poll() is not None)
    assert wrong.process.returncode != 0 and not streamer.events("live")
    status, _, _ = post(whep_of(link), "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n", {"X-Cashu": "cashuBx"})
    assert status == 503, f"{status} before anybody publishes"
    publisher = ffmpeg_publishes(programs, whip, key, H264)
    assert streamer.event("live")["live"]
    first, both, sizes = asyncio.run(aiortc_plays(programs, mint, link))
    assert sizes == {(640, 360)}, sizes
    print(f"ffmpeg (H.264) to aiortc: 0 pictures unpaid, {first} for one span, {both} for two")
    after, wait = chromium_plays(programs, browser, mint, link, out)
    print(f"ffmpeg (H.264) to Chromium: 0 packets unpaid, {after['frames']} pictures "
          f"({after['codec']}), the first {wait * 1000:.0f} ms after the paid request began")
    frames, kinds = ours_watches(programs, link, out, "ffmpeg.mkv", FPS)
    print(f"ffmpeg (H.264) to our viewer: {frames} pictures in its recording, {sorted(kinds)}")
    publisher.stop()
    until("the stream to end", lambda: [e["live"] for e in streamer.events("live")] == [True, False])
    lasted = time.monotonic() - began
    streamer.stop()
    frames, kinds, log = decoded(streamed)
    assert kinds == {("Video", "h264"), ("Audio", "opus")}, kinds
    # All that was published, whoever watched meanwhile.
    assert 0.6 * lasted * FPS <= frames <= lasted * FPS, f"{frames} in {lasted} s\n{log}"
    print(f"ffmpeg (H.264) into the streamer's own recording: {frames} pictures in {lasted:.0f} s")


def with_gstreamer(programs, mint, out):
    """GStreamer's webrtcbin, whose candidates come by PATCH."""
    streamer, link, whip, key = programs.serve("streamer-gstreamer", mint, PRICE)
    script = os.path.join(os.path.dirname(__file__), "gstreamer.py")
    publisher = programs.start("gstreamer", "/usr/bin/python3", script, whip, key)
    assert streamer.event("live")["live"]
    trickled = until("candidates by PATCH", lambda: [it for it in publisher.lines if "trickled" in it])
    assert all(it.split()[2] == "204" for it in trickled), trickled
    frames, kinds = ours_watches(programs, link, out, "gstreamer.webm", FPS)
    assert kinds == {("Video", "vp8"), ("Audio", "opus")}, kinds
    publisher.stop()
    assert publisher.lines[-1].strip() == "deleted 200", publisher.lines
    until("the stream to end", lambda: [e["live"] for e in streamer.events("live")] == [True, False])
    streamer.stop()
    print(f"GStreamer (VP8, candidates by PATCH) to our viewer: {frames} pictures in its recording, "
          f"{sorted(kinds)}")


def with_chromium(programs, mint, browser, out):
    streamer, link, whip, key = programs.serve("streamer-chromium", mint, PRICE)
    camera = browser.open()
    answer = camera.do("publish", whip, "wrong" * 5)
    assert answer["status"] == 401, answer
    answer = camera.do("publish", whip, key)
    assert answer["status"] == 201, answer
    assert streamer.event("live")["live"]
    # Until the ring no longer holds the first key frame, and no other comes by itself.
    time.sleep(4)
    assert camera.stats()["plis"] == 0, "nobody watches yet"
    after, wait = chromium_plays(programs, browser, mint, link, out)
    plis = camera.stats()["plis"]
    print(f"Chromium to Chromium: 0 packets unpaid, {after['frames']} pictures ({after['codec']}), "
          f"the first {wait * 1000:.0f} ms after the paid request began; {plis} key frames asked for")
    assert plis >= 1, "a new viewer's key frame is asked for"
    frames, kinds = ours_watches(programs, link, out, "chromium.webm", CAMERA_FPS)
    print(f"Chromium to our viewer: {frames} pictures in its recording, {sorted(kinds)}")
    camera.run("pc.close()")
    until("the stream to end", lambda: [e["live"] for e in streamer.events("live")] == [True, False])
    streamer.stop()


def with_other_codecs(programs, mint, browser, out):
    """What Chromium encodes beside VP8, decoded by Chromium and recorded by our viewer."""
    for codec in ("VP9", "AV1"):
        streamer, link, whip, key = programs.serve(f"streamer-{codec}", mint, PRICE)
        camera = browser.open()
        answer = camera.do("publish", whip, key, f"video/{codec}")
        assert answer["status"] == 201, answer
        assert streamer.event("live")["live"]
        after, _ = chromium_plays(programs, browser, mint, link, out)
        assert after["codec"] == f"video/{codec}", after
        frames, kinds = ours_watches(programs, link, out, f"{codec}.mp4", CAMERA_FPS)
        assert kinds == {("Video", codec.lower()), ("Audio", "opus")}, kinds
        camera.run("pc.close()")
        streamer.stop()
        print(f"Chromium to Chromium and to our viewer in {codec}: {after['frames']} pictures, and {frames} "
              f"in its recording (MP4), {sorted(kinds)}")


def main():
    bin_folder, out = map(os.path.abspath, sys.argv[1:3])
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        programs, browser = Programs(bin_folder, out, folder), None
        try:
            browser = Browser(os.path.join(folder, "chromium"), out)
            mint = programs.mint()
            programs.viewer("deposit", "300sat", "--mint", mint)
            chromium_pays_by_session(programs, mint, browser, out)
            asyncio.run(nothing_for_the_middle(programs, mint))
            with_ffmpeg(programs, mint, browser, out)
            with_chromium(programs, mint, browser, out)
            into_a_player(programs, mint)
            with_other_codecs(programs, mint, browser, out)
            through_turn(programs, mint)
            by_stun(programs, mint)
            with_rtp(programs, mint, out)
            with_gstreamer(programs, mint, out)
        finally:
            programs.stop()
            if browser:
                browser.stop()
    print("clients: ok")


main()
