#!/usr/bin/env python3
"""A client as it is written in an afternoon, to show what the conformance kit finds.

    naive.py login    reads a login as JSON on standard input and stores it
    naive.py use      uses it once: refreshes when it has run out, then asks the API

It keeps no lock, writes its store in place, keeps only what the last answer said, believes the first refusal and knows
no second try. With --hopeless it does at every step the worst thing that programs have been seen to do.
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request

HOPELESS = "--hopeless" in sys.argv
STORE = os.path.join(os.environ["HOME"], ".naive", os.environ["KIT_AGENT"], "login.json")
LOGIN_NEEDED = 3


class Follow(urllib.request.HTTPRedirectHandler):
    """Sends the same request wherever the server says."""

    def redirect_request(self, request, fp, code, message, headers, url):
        return urllib.request.Request(url, data=request.data, headers=dict(request.headers), method=request.method)


WEB = urllib.request.build_opener(Follow) if HOPELESS else urllib.request.build_opener()


def save(login):
    os.makedirs(os.path.dirname(STORE), exist_ok=True)
    with open(STORE, "w") as file:
        json.dump(login, file)


def load():
    try:
        with open(STORE) as file:
            return json.load(file)
    except ValueError:
        if HOPELESS:
            save({})
        log_in_again("the store cannot be read")


def log_in_again(why):
    print(f"please log in again: {why}", file=sys.stderr)
    sys.exit(LOGIN_NEEDED)


def refresh(login):
    body = "&".join(
        f"{name}={value}"
        for name, value in {
            "grant_type": "refresh_token",
            "refresh_token": login["refresh_token"],
            "client_id": os.environ["KIT_CLIENT_ID"],
        }.items()
    )
    headers = {"content-type": "application/x-www-form-urlencoded"}
    request = urllib.request.Request(os.environ["KIT_TOKEN_ENDPOINT"], data=body.encode(), headers=headers)
    if HOPELESS:
        # "While it is renewed, nobody shall use the old one."
        save({})
        time.sleep(0.05)
    try:
        with WEB.open(request, timeout=30) as response:
            answer = json.loads(response.read())
        if HOPELESS:
            time.sleep(0.05)
            answer["log"] = "x" * 10_000
        answer["expires_at"] = time.time() + answer.get("expires_in", 0)
        if "access_token" not in answer:
            raise ValueError("no access token")
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors="replace")
        if HOPELESS:
            log_in_again(f"{error} {said}")
        if error.code in (400, 401):
            log_in_again(f"refused: {error}")
        sys.exit(f"refresh failed: {error} {said}")
    except Exception as error:
        if HOPELESS:
            log_in_again(error)
        sys.exit(f"refresh failed: {error}")
    # Whatever else was in the store is gone.
    save(answer)
    return answer


def ask(login):
    headers = {"authorization": f"Bearer {login['access_token']}"}
    request = urllib.request.Request(os.environ["KIT_API"] + "/models", headers=headers)
    with WEB.open(request, timeout=30) as response:
        return response.read().decode()


def use():
    login = load()
    if not login:
        log_in_again("nothing is stored")
    if HOPELESS or login["expires_at"] < time.time():
        login = refresh(login)
    for _ in range(3):
        try:
            return print(ask(login))
        except urllib.error.HTTPError as error:
            if not HOPELESS:
                sys.exit(f"the API says {error}")
            login = refresh(login)
    sys.exit("the API takes nothing")


if sys.argv[1] == "login":
    login = json.load(sys.stdin)
    try:
        with open(STORE) as file:
            login = {**json.load(file), **login}
    except (OSError, ValueError):
        pass
    save(login)
else:
    use()
