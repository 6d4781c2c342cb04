"""What the load test of `mcc-web serve` counts."""

import argparse
import http.server
import json
import os
import socket
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np

from benchmarks import hands_api
from tests.support.commands import run

ANSWER_SECONDS = 0.1


class SlowHandler(http.server.BaseHTTPRequestHandler):
    """Answers one request after the other, each in ANSWER_SECONDS."""

    protocol_version = "HTTP/1.1"
    turn = threading.Lock()

    def do_POST(self):
        encoded = self.rfile.read(int(self.headers["Content-Length"]))
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        with self.turn:
            time.sleep(ANSWER_SECONDS)
        content = json.dumps({"width": image.shape[1]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


def test_answers_after_the_end_do_not_raise_the_rate():
    """At the end of the second 6 clients wait for answers, which take another 0.6 seconds."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), SlowHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = argparse.Namespace(seconds=1, clients=6, hands="one")
    try:
        table = hands_api.measure(options, SimpleNamespace(pid=os.getpid()), server.server_port)
    finally:
        server.shutdown()
        server.server_close()
    answered, a_second = (float(cell) for cell in table.splitlines()[-1].split("|")[2:4])
    assert answered >= 7 and a_second <= 1 / ANSWER_SECONDS


def test_a_client_whose_server_has_ended_ends_too():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tally, start = hands_api.Tally(), time.monotonic()
    images = hands_api.make_images()
    hands_api.send_until(start + 5, port, "hands=one", images=images, tally=tally, first=0)
    assert len(tally.faults) == 1 and tally.faults[0].startswith("no answer: ConnectionRefused")
    assert time.monotonic() - start < 4


def test_the_command_loads_a_server_for_some_seconds():
    done = run("benchmarks.hands_api", "--seconds", 2, "--clients", 3, "--quiet")
    assert done.returncode == 0, done.stderr
    header, _, row = done.stdout.splitlines()[-3:]
    cells = dict(zip(*([cell.strip() for cell in line.split("|")[1:-1]] for line in (header, row))))
    assert cells["clients"] == "3" and int(cells["answered"]) >= 3
    assert cells["lost"] == cells["refused (503)"] == "0"
    assert int(cells["highest"]) >= int(cells["at the end"]) > 50
