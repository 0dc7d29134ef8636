# An HTTP server of Python's standard library: `PORT [CERT KEY]`, with these PEM files over TLS.
# A line of its input says how it answers at a path from then on, as JSON:
#   {"path": "/a", "status": 200, "body": "x", "headers": {"ETag": "\"1\""}, "wait_s": 0}
# The path `*` is all others. What it is asked it prints, as JSON, before it answers.
# An ETag that is asked for is answered with 304.
import http.server
import json
import ssl
import sys
import threading
import time

answers = {"*": {"status": 404}}
line_by_line = threading.Lock()


def say(what):
    with line_by_line:
        print(json.dumps(what), flush=True)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        said = {"method": self.command, "path": self.path, "headers": headers, "body": body}
        how = answers.get(self.path) or answers["*"]
        say(said)
        time.sleep(how.get("wait_s", 0))
        told = how.get("headers", {})
        status = how.get("status", 200)
        if "ETag" in told and headers.get("if-none-match") == told["ETag"]:
            status = 304
        body = b"" if status == 304 else how.get("body", "").encode()
        self.send_response(status)
        for name, value in told.items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        pass  # whoever asks may leave before the answer


server = Server(("127.0.0.1", int(sys.argv[1])), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
say({"listening": server.server_address[1]})
for line in sys.stdin:
    how = json.loads(line)
    answers[how["path"]] = how
    say({"set": how["path"]})
