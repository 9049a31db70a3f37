"""What both Python scripts need: the setting in which the client is used, and how an error is told."""

import json
import os


def given(**names):
    """The client's arguments: none, where its own variables are set; else the URL and the key of the gateway."""
    if "GATEWAY_URL" not in os.environ:
        return {}
    return {names["url"]: os.environ["GATEWAY_URL"], names["key"]: os.environ["GATEWAY_KEY"]}


def error_of(call):
    """The class, the status and the body of the error that a call ends with."""
    try:
        call()
    except Exception as error:
        body = getattr(error, "body", None)
        return {"class": type(error).__name__, "status": getattr(error, "status_code", None), "body": body}
    return "no error"


def tell(result):
    print(json.dumps(result))
