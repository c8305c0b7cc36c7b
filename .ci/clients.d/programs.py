"""Our programs, and what else is started, as processes that end with the run."""

import json
import os
import re
import subprocess
import threading
import time
import urllib.request

FAST = 0.05


def until(what, check, seconds=30):
    """The first true value of check(), or an error that names what was waited for."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(FAST)
    raise AssertionError(f"not within {seconds} s: {what}")


class Process:
    """One process with its log."""

    def __init__(self, name, args, out, env=None):
        self.name, self.lines = name, []
        self.log = open(os.path.join(out, f"{name}.log"), "w", encoding="utf-8")
        self.process = subprocess.Popen(
            args,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **(env or {})},
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)

    def event(self, name, seconds=30):
        """The first event of that name on stdout."""

        def find():
            assert self.process.poll() is None or self.lines, f"{self.name} ended"
            for line in list(self.lines):
                event = json.loads(line)
                if event.get("event") == name:
                    return event
            return None

        return until(f"{name} of {self.name}", find, seconds)

    def events(self, name):
        return [e for e in map(json.loads, list(self.lines)) if e.get("event") == name]

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


class Programs:
    """A mint, a streamer and a viewer's wallet."""

    def __init__(self, bin_folder, out, folder):
        self.bin, self.out, self.folder = bin_folder, out, folder
        self.running = []

    def start(self, name, *args, env=None):
        process = Process(name, list(args), self.out, env)
        self.running.append(process)
        return process

    def stop(self):
        while self.running:
            self.running.pop().stop()

    def data(self, name):
        return os.path.join(self.folder, name)

    def mint(self):
        args = (self.path("streamer"), "--data", self.data("mint"), "mint", "--listen")
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        self.start("mint", *args, f"127.0.0.1:{port}")
        until("the mint", lambda: answers(f"{url}/v1/info"))
        return url

    def turn(self):
        """A TURN server, its URL and the environment that names its user."""
        port, user, password = free_port(), "streamer", "relay-password"
        server = self.start(
            "turnserver",
            *("turnserver", "-n", "--verbose", "--no-cli", "--no-tls", "--no-dtls", "--lt-cred-mech"),
            *("--listening-ip", "127.0.0.1", "--listening-port", str(port)),
            *("--relay-ip", "127.0.0.1", "--realm", "test", "--user", f"{user}:{password}"),
            *("--allow-loopback-peers", "--pidfile", self.data("turn.pid"), "--log-file", "stdout"),
            *("--userdb", self.data("turn.db")),
        )
        env = {"STREAMPAY_TURN_USER": user, "STREAMPAY_TURN_PASSWORD": password}
        return server, f"turn:127.0.0.1:{port}", env

    def stun(self):
        """A STUN server's port."""
        port = free_port()
        server = self.start(
            "stunserver",
            *("turnserver", "-n", "--verbose", "--no-cli", "--no-tls", "--no-dtls", "--stun-only"),
            *("--listening-ip", "127.0.0.1", "--listening-port", str(port)),
            *("--pidfile", self.data("stun.pid"), "--log-file", "stdout"),
            *("--userdb", self.data("stun.db")),
        )
        return server, port

    def serve_from(self, name, mint, price, *source, env=None):
        """A streamer and its link."""
        args = ("--data", self.data(name), "serve", "--price", price, "--mint", mint, *source)
        listen = ("--listen", "127.0.0.1:0", "--json")
        streamer = self.start(name, self.path("streamer"), *args, *listen, env=env)
        return streamer, streamer.event("serving")["link"]

    def serve(self, name, mint, price, *more, env=None):
        """A streamer that is published to, its link, where to publish, and the key."""
        streamer, link = self.serve_from(name, mint, price, "--whip", *more, env=env)
        whip = streamer.event("serving")["whip"]
        data = self.data(name)
        with open(os.path.join(data, "stream-key"), encoding="utf-8") as file:
            key = file.read().strip()
        return streamer, link, whip, key

    def viewer(self, *args, seconds=120, codes=(0,)):
        """Runs the viewer to its end; gives what it printed."""
        command = [self.path("viewer"), "--data", self.data("viewer"), *args]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        with open(os.path.join(self.out, "viewer.log"), "a", encoding="utf-8") as log:
            log.write(f"$ viewer {' '.join(args)}\n{done.stderr}\n")
        assert done.returncode in codes, f"viewer {args[0]}: {done.stderr}"
        return done.stdout

    def token(self, mint, demand):
        """What pays a demand (NUT-24), from the viewer's wallet."""
        said = self.viewer("pay", demand, "--mint", mint, "--yes")
        return re.search(r"cashu[AB][\w=-]+", said).group()

    def path(self, program):
        return os.path.join(self.bin, program)


def free_port():
    import socket

    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def post(url, body, headers):
    """Status, headers and body of a POST."""
    request = urllib.request.Request(
        url, body.encode(), {"Content-Type": "application/sdp", **headers}
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode()
