"""A stand-in for GitHub's API, for CML's host of pictures and for Slack: a local server, since no test needs internet.

It keeps what the callers depend on: comments come thirty at a time unless more are asked for, with a Link to the next
page, the oldest first; a body of more than 65,536 characters is refused; whoever has the token is github-actions[bot].
"""

import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

AUTHOR = "github-actions[bot]"
REPOSITORY = "example/churn"
TOKEN = "a-token-of-the-tests"


class FakeGitHub:
    """The state of one repository, its pull request 7, and what the two other services were sent."""

    def __init__(self):
        self.comments = []
        self.heads = {7: "7" * 40}
        self.branches = {7: "stranger:feature"}  # of pull requests to main
        self.pictures = []  # what was published
        self.messages = []  # what Slack was sent
        self.published = (200, "https://pictures.example/abc.png")  # the answer to a picture; None hangs
        self.slack = [200]  # the answers to messages; the last one stays, and None hangs
        self.closing = threading.Event()
        self.servers = []

    def comment(self, body, author=AUTHOR, pull=7):
        """Write a comment, as somebody at the website would."""
        user = None if author is None else {"login": author}  # None: an account that was deleted
        number = len(self.comments) + 1
        url = f"https://github.com/{REPOSITORY}/pull/{pull}#issuecomment-{number}"
        self.comments.append({"id": number, "body": body, "user": user, "html_url": url, "pull": pull})
        return self.comments[-1]

    def serve(self, certificate=None):
        """Serve on a free port and return the address; with a certificate (and its key) by TLS, as CML demands."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self))
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        self.servers.append(server)
        return f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"

    def close(self):
        """End the servers, and whoever hangs at one of them."""
        self.closing.set()
        for server in self.servers:
            server.shutdown()
            server.server_close()

    def answer(self, method, path, query, body):  # noqa: PLR0911  # one for each thing that can be asked
        """Return the status and the decoded answer of the API."""
        path = path.removeprefix("/api/v3").removeprefix(f"/repos/{REPOSITORY}")
        if found := re.fullmatch(r"/pulls/(\d+)", path):
            number = int(found[1])
            known = {"number": number, "head": {"sha": self.heads.get(number)}}
            return (200, known) if number in self.heads else (404, {"message": "Not Found"})
        if path == "/pulls":
            asked = (query["state"], query["base"], query["head"][0])
            found = [number for number, head in self.branches.items() if asked == (["open"], ["main"], head)]
            return 200, [{"number": number, "head": {"sha": self.heads[number]}} for number in found]
        on = re.fullmatch(r"/issues/(\d+)/comments", path)
        if on and method == "GET":
            size, page = int(query.get("per_page", ["30"])[0]), int(query.get("page", ["1"])[0])
            comments = [comment for comment in self.comments if comment["pull"] == int(on[1])]
            return 200, comments[size * (page - 1) : size * page]
        if method in ("POST", "PATCH") and len(body["body"]) > 65_536:
            return 422, {"message": "Validation Failed"}
        if on:
            return 201, self.comment(body["body"], pull=int(on[1]))
        if found := re.fullmatch(r"/issues/comments/(\d+)", path):
            comment = self.comments[int(found[1]) - 1]
            comment["body"] = body["body"]
            return 200, comment
        return 404, {"message": "Not Found"}


def handler(fake):
    """Return the class that answers requests from the state."""

    class Handler(BaseHTTPRequestHandler):
        def reply(self, status, text, **headers):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def handle_request(self):
            split = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if split.path == "/pictures":
                fake.pictures.append((self.headers["Content-Type"], content))
                return self.reply(*fake.published) if fake.published else fake.closing.wait()
            if split.path.startswith("/slack"):
                fake.messages.append(json.loads(content))
                status = fake.slack.pop(0) if len(fake.slack) > 1 else fake.slack[0]
                return self.reply(status, "ok") if status else fake.closing.wait()
            if TOKEN not in self.headers.get("Authorization", ""):
                return self.reply(401, '{"message": "Bad credentials"}')
            query = parse_qs(split.query)
            status, answer = fake.answer(self.command, split.path, query, json.loads(content) if content else None)
            headers = {"Content-Type": "application/json"}
            size, page = int(query.get("per_page", ["30"])[0]), int(query.get("page", ["1"])[0])
            if isinstance(answer, list) and size * page < len(fake.comments):
                following = f"http://{self.headers['Host']}{split.path}?per_page={size}&page={page + 1}"
                headers["Link"] = f'<{following}>; rel="next"'
            return self.reply(status, json.dumps(answer), **headers)

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_request  # noqa: N815  # as http.server calls them

        def log_message(self, *_):
            """Say nothing: the tests look at the state."""

    return Handler
