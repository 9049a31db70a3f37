#!/usr/bin/env python3
"""A tokensink plugin in Python, with nothing but the standard library.

One process serves one request. Everything that is said on standard output is a JSON object on a line of its own;
standard error is for complaints, which tokensink shows when something goes wrong.
"""

import base64
import hashlib
import http.server
import json
import secrets
import sys
import urllib.error
import urllib.parse
import urllib.request


def say(message_type, **fields):
    """Says one message."""
    print(json.dumps({"type": message_type, **fields}), flush=True)


def hear():
    """Reads one message."""
    line = sys.stdin.readline()
    if not line:
        sys.exit("tokensink is gone")
    return json.loads(line)


class Failed(Exception):
    """An error message to end with. Its kind says what tokensink does next."""

    def __init__(self, kind, message, **more):
        super().__init__(message)
        self.kind, self.message, self.more = kind, message, more


def post(url, form):
    """Posts a form and returns the answer's status and JSON object.

    After a refresh this is the place that matters: "unspent" may only be said where the server certainly did not
    spend the refresh token. Where nobody knows, say nothing and let tokensink find out.
    """
    body = urllib.parse.urlencode(form).encode()
    try:
        with urllib.request.urlopen(url, body, timeout=30) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        try:
            return error.code, json.loads(error.read())
        except ValueError:
            return error.code, {}
    except urllib.error.URLError as error:
        refused = isinstance(error.reason, ConnectionRefusedError)
        raise Failed("transient", f"{url}: {error.reason}", unspent=refused) from error
    except (OSError, ValueError) as error:
        raise Failed("transient", f"{url}: {error}") from error


def account_of(access_token):
    """Whose token it is: the claims of a JWT. A program may as well ask the server."""
    try:
        payload = access_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return {}
    return {"subject": claims.get("sub"), "email": claims.get("email")}


def tokens(status, answer):
    """The result of a token endpoint's answer."""
    if status == 200 and answer.get("access_token"):
        result = {
            "access_token": answer["access_token"],
            "refresh_token": answer.get("refresh_token"),
            "expires_in": answer.get("expires_in"),
            "account": account_of(answer["access_token"]),
            # The token may be handed out until it ends. "session" and "never" shorten that.
            "cache": "until",
        }
        say("result", **{name: value for name, value in result.items() if value is not None})
        return
    code = answer.get("error", "")
    message = f"the server answered {status} {code} {answer.get('error_description', '')}".strip()
    if code == "invalid_grant":
        raise Failed("terminal", message)
    # A gateway that answers for a dead server knows nothing of the token; any other answer is the server's own no.
    raise Failed("transient", message, unspent=status not in (200, 502, 504))


class Callback(http.server.BaseHTTPRequestHandler):
    """Takes the browser's redirect (RFC 8252 section 7.3)."""

    def do_GET(self):  # noqa: N802 (the name that the base class wants)
        query = urllib.parse.urlparse(self.path)
        found = query.path == "/callback"
        self.send_response(200 if found else 404)
        self.send_header("content-type", "text/plain")
        self.end_headers()
        self.wfile.write(b"You can close this page." if found else b"")
        if found:
            self.server.answer = dict(urllib.parse.parse_qsl(query.query))

    def log_message(self, *_):
        """Says nothing on standard error: the path holds the code."""


def login(request):
    """Authorization code with PKCE (RFC 7636). The user is asked where nobody could click."""
    server, client_id = request["settings"]["server"], request["settings"]["client_id"]
    verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(16)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    listener = http.server.HTTPServer(("127.0.0.1", 0), Callback)
    listener.answer = None
    redirect_uri = f"http://127.0.0.1:{listener.server_port}/callback"
    query = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "scope": "openid email offline_access",
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    # While a page is open the user is waited for, so silence is fine until the next message.
    say("open_url", url=f"{server}/oauth/authorize?{urllib.parse.urlencode(query)}")
    while listener.answer is None:
        listener.handle_request()
    answer = listener.answer
    if answer.get("error"):
        raise Failed("denied", f"the server says {answer['error']}")
    if not secrets.compare_digest(answer.get("state", ""), state) or "code" not in answer:
        raise Failed("denied", "the browser came back with another login's answer")
    say("progress", text="fetching the tokens")
    form = {
        "grant_type": "authorization_code",
        "client_id": client_id,
        "code": answer["code"],
        "code_verifier": verifier,
        "redirect_uri": redirect_uri,
    }
    tokens(*post(f"{server}/oauth/token", form))


def refresh(request):
    """Spends the refresh token, once (RFC 6749 section 6)."""
    form = {
        "grant_type": "refresh_token",
        "client_id": request["settings"]["client_id"],
        "refresh_token": request["tokens"]["refresh_token"],
    }
    tokens(*post(f"{request['settings']['server']}/oauth/token", form))


def revoke(request):
    """Ends the grant (RFC 7009)."""
    held = request["tokens"]
    form = {
        "client_id": request["settings"]["client_id"],
        "token": held.get("refresh_token") or held["access_token"],
    }
    status, _ = post(f"{request['settings']['server']}/oauth/revoke", form)
    if status != 200:
        raise Failed("transient", f"the server answered {status}")
    say("result")


def main():
    say("hello", versions=[1])
    request = hear()
    actions = {"login": login, "refresh": refresh, "revoke": revoke}
    try:
        if request.get("action") not in actions:
            raise Failed("not_supported", "this plugin logs in, refreshes and revokes")
        actions[request["action"]](request)
    except Failed as failed:
        say("error", kind=failed.kind, message=failed.message, **failed.more)


main()
