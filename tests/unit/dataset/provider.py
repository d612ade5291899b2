"""A loopback server that speaks OpenAI's protocol and keeps its own books; used by the tests of `dataset`."""

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Provider:
    def __init__(self, seconds=0.0, refuse=0):
        self.seconds, self.refuse = seconds, refuse
        self.lock = threading.Lock()
        self.asked, self.done, self.tokens, self.begun = Counter(), 0, 0, []
        self.reached = threading.Event()
        self.enough = 0  # `reached` is set after so many answers
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                status, reply = provider.answer(body["messages"][-1]["content"])
                text = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *args: None  # a client that was killed
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, text):
        time.sleep(self.seconds)
        with self.lock:
            self.begun.append(time.monotonic())
            if self.refuse:
                self.refuse -= 1
                return 503, {"error": {"message": "no"}}
            self.asked[text] += 1
            self.done += 1
            self.tokens += len(text)
            if self.enough and self.done >= self.enough:
                self.reached.set()
        message = {"role": "assistant", "content": f"large {text}"}
        usage = {"prompt_tokens": len(text), "completion_tokens": 1, "total_tokens": len(text) + 1}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        return 200, {"id": "x", "object": "chat.completion", "model": "big", "choices": [choice], "usage": usage}

    def close(self):
        self.server.shutdown()
        self.server.server_close()
