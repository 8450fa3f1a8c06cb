"""Errors that arise on the client's side of the wire, beside those that the server answers with."""

from squib.contracts.errors import SquibError


class ServerUnreachable(SquibError):
    """No answer came: nothing listens there, the network is down, or the connection broke."""

    code, status, title = "unreachable", 503, "squib does not answer"
    default_advice = "Is 'squib up' running? SQUIB_URL names another server."


class UnexpectedAnswer(SquibError):
    """What came back is not squib's."""

    code, status, title = "unexpected_answer", 502, "The answer is not squib's"
    default_advice = "Check the URL: something else than squib seems to listen there."


class BrokenStream(SquibError):
    """The server sent what is no stream of events, or left one out: asking again from the last good one helps."""

    code, status, title = "broken_stream", 502, "The stream of events is broken"
    default_advice = "Try again; if it stays, something between you and squib changes the answer."
