"""Takes the webhooks of a subscription, and callbacks: checks the signature, passes over what comes twice, prints the rest.

    WEBHOOK_SECRET=whsec_… python receiver.py 9000

It needs nothing but Python. Behind it everybody may knock: what is not signed with the secret is refused.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Mapping
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOLERANCE_S = 300  # between its clock and ours: an old request that somebody kept is not taken again
MAX_BODY = 2 * 1024 * 1024
REMEMBERED = 10_000  # ids
seen: OrderedDict[str, None] = OrderedDict()


def is_genuine(headers: Message, body: bytes, secret: str) -> bool:
    """Check a request as https://www.standardwebhooks.com says; there are libraries for many languages that do it too."""
    id, stamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not stamp.isdigit() or abs(time.time() - int(stamp)) > TOLERANCE_S:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    wanted = base64.b64encode(hmac.new(key, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest()).decode()
    given = headers.get("webhook-signature", "").split(" ")  # several, for a day after the secret was replaced
    return any(hmac.compare_digest(f"v1,{wanted}".encode(), each.encode()) for each in given)


def told(content: Mapping[str, object]) -> str:
    """Return one line about an event, or about the deployment that a callback brings."""
    if "specversion" not in content:
        return f"{content['uuid']}  {content['status']}  (step {content['step']})"
    data = content["data"]
    if not isinstance(data, dict) or "step" not in data:
        return str(content["type"])
    return f"{data['deployment']['id']}  {data['step']['status']}  {content['type']}: {data['step']['title']}"


class Hook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= MAX_BODY:
            self.send_error(413)
            return
        body = self.rfile.read(length)
        if not is_genuine(self.headers, body, os.environ["WEBHOOK_SECRET"]):
            self.send_error(401, "the signature does not fit")
            return
        id = self.headers["webhook-id"]
        if id not in seen:  # it may come twice: whoever sent it may not have heard our answer
            seen[id] = None
            if len(seen) > REMEMBERED:
                seen.popitem(last=False)
            print(told(json.loads(body)), flush=True)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


if __name__ == "__main__":
    if "WEBHOOK_SECRET" not in os.environ:
        sys.exit("set WEBHOOK_SECRET: the secret that was shown when the subscription was made")
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 9000), Hook).serve_forever()
