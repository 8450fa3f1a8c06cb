"""What the gateway itself answers: problem documents, with the message where model clients look for it."""

import json

import h11


class Refusal(Exception):
    """An answer of the gateway's own."""

    def __init__(self, status: int, code: str, title: str, detail: str, advice: str):
        super().__init__(detail)
        self.status = status
        self._document = {
            "type": f"urn:squib:error:{code}",
            "title": title,
            "status": status,
            "code": code,
            "detail": detail,
            "advice": advice,
            "error": {"type": "api_error", "message": f"squib's gateway: {detail} {advice}"},
        }

    def parts(self) -> tuple[h11.Response, bytes]:
        """The answer's head and body."""
        body = json.dumps(self._document).encode()
        headers = [("Content-Type", "application/problem+json"), ("Content-Length", str(len(body)))]
        return h11.Response(status_code=self.status, headers=headers), body


def bad_request(detail: str) -> Refusal:
    """For what is no request that the gateway could pass on."""
    return Refusal(400, "invalid_request", "Bad request", detail, "Send a plain HTTP/1.1 request.")


def no_route(prefix: str) -> Refusal:
    """For a prefix that this sandbox has no route for."""
    detail = f"there is no route for /{prefix[:60]}."
    return Refusal(403, "forbidden", "No route", detail, "Set that provider's key in squib's settings.")


def too_large(bound: int) -> Refusal:
    """For a body over the bound."""
    detail = f"the request's body is over {bound} bytes."
    return Refusal(413, "too_large", "Too large", detail, "Send less at once.")


def unreachable(route: str, kind: str) -> Refusal:
    """For an upstream that does not answer; `kind` is the error's class, whose text might hold a secret."""
    detail = f"the provider behind /{route} could not be reached ({kind})."
    advice = "Check its address in squib's settings and squib's own network, and retry."
    return Refusal(502, "bad_gateway", "Provider unreachable", detail, advice)
