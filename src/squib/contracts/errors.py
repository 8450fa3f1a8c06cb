"""One tree of errors. Each knows its code, its HTTP status, and what the reader should do next.

    SquibError                         500  internal
    ├── InvalidRequest                 422  invalid_request     the caller's input is wrong; names the field
    │   └── PathEscapes                400  path_escapes        a path would leave /workspace
    ├── Unauthenticated                401  unauthenticated     no token, or one that is not known
    ├── Forbidden                      403  forbidden           known, but not allowed
    ├── NotFound                       404  not_found           absent, or another tenant's
    ├── Conflict                       409  conflict            the state does not allow it now
    │   ├── IdempotencyMismatch        422  idempotency_mismatch  same key, other request
    │   ├── RunActive                  409  run_active          the guest is busy with another run
    │   ├── NoRepository               409  no_repository       the workspace is no git repository
    │   └── LeaseLost                  409  lease_lost          another worker owns the task now
    ├── TooLarge                       413  too_large           over a bound that the message names
    ├── TooManyRequests                429  too_many_requests
    ├── RepositoryError                422  repository          a URL, ref or bundle that git refuses
    ├── ImageError                     422  image               an image that can't be made, or not used
    └── InfrastructureError            503  infrastructure      squib's own trouble: worth a retry
        ├── SandboxLost                503  sandbox_lost        the machine or its guest is gone
        ├── GuestUnreachable           503  guest_unreachable
        ├── HostUnreachable            503  host_unreachable    the host's daemon does not answer
        ├── HostFull                   503  host_full           no room for one more machine here
        ├── DriverUnavailable          503  driver_unavailable  no driver, or not the one named, boots here
        ├── Unsupported                501  unsupported         this driver can't do that
        └── StoreUnavailable           503  store_unavailable   the database does not answer

A retry helps for `InfrastructureError` alone: an agent's own failure is an outcome, never an exception.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class SquibError(Exception):
    """The root. `detail` is for a person; `advice` says what to do next; `fields` names what was wrong."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    default_advice: ClassVar[str] = "Look at squib's own log; if it stays, report it."

    def __init__(self, detail: str, *, advice: str | None = None, fields: Mapping[str, str] | None = None):
        super().__init__(detail)
        self.detail = detail
        self.advice = self.default_advice if advice is None else advice
        self.fields: dict[str, str] = dict(fields or {})

    def problem(self) -> dict[str, Any]:
        """The RFC 9457 problem document, also the guest's error body."""
        document: dict[str, Any] = {
            "type": f"urn:squib:error:{self.code}",
            "title": self.title,
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "advice": self.advice,
        }
        if self.fields:
            document["fields"] = self.fields
        return document


class InvalidRequest(SquibError):
    """The caller's input is wrong."""

    code, status, title = "invalid_request", 422, "Invalid request"
    default_advice = "Correct the named field and send the request again."


class PathEscapes(InvalidRequest):
    """A path would leave the workspace."""

    code, status, title = "path_escapes", 400, "Path leaves the workspace"
    default_advice = "Use a path relative to /workspace, without '..' or links that lead out."


class Unauthenticated(SquibError):
    """No token, or an unknown one."""

    code, status, title = "unauthenticated", 401, "Not authenticated"
    default_advice = "Send 'Authorization: Bearer TOKEN'; 'squib token create' makes one."


class Forbidden(SquibError):
    """Known, but not allowed."""

    code, status, title = "forbidden", 403, "Forbidden"
    default_advice = "Use a token whose user may do this."


class NotFound(SquibError):
    """Absent, or another tenant's."""

    code, status, title = "not_found", 404, "Not found"
    default_advice = "Check the id; 'squib list' shows what is yours."


class Conflict(SquibError):
    """The present state does not allow it."""

    code, status, title = "conflict", 409, "Conflict"
    default_advice = "Look at the present state and decide anew."


class IdempotencyMismatch(Conflict):
    """The same Idempotency-Key came with another request."""

    code, status, title = "idempotency_mismatch", 422, "Idempotency key reused"
    default_advice = "Use a new Idempotency-Key for a new request."


class RunActive(Conflict):
    """The guest is busy with another run."""

    code, title = "run_active", "A run is active"
    default_advice = "Wait for it, or cancel it with POST /run/cancel."


class NoRepository(Conflict):
    """The workspace is no git repository."""

    code, title = "no_repository", "No repository"
    default_advice = "Clone or initialise one first."


class LeaseLost(Conflict):
    """Another worker owns the task now: stop at once and write nothing."""

    code, title = "lease_lost", "Lease lost"
    default_advice = "Nothing: the task's new owner goes on with it."


class TooLarge(SquibError):
    """Over a bound that the message names."""

    code, status, title = "too_large", 413, "Too large"
    default_advice = "Send less, or raise the bound that is named."


class TooManyRequests(SquibError):
    """More requests than this caller may make now."""

    code, status, title = "too_many_requests", 429, "Too many requests"
    default_advice = "Wait and try again."


class RepositoryError(SquibError):
    """A URL, ref or bundle that git refuses."""

    code, status, title = "repository", 422, "Repository not usable"
    default_advice = "Check the URL and the ref: only https:// is fetched, or send an upload."


class ImageError(SquibError):
    """An image that can't be made, or not used."""

    code, status, title = "image", 422, "Image not usable"
    default_advice = "Correct what is named and build or import the image again."


class InfrastructureError(SquibError):
    """squib's own trouble, not the agent's: worth a retry."""

    code, status, title = "infrastructure", 503, "Infrastructure trouble"
    default_advice = "squib retries by itself; 'squib doctor' shows what is wrong if it stays."


class SandboxLost(InfrastructureError):
    """The machine or its guest is gone."""

    code, title = "sandbox_lost", "Sandbox lost"


class GuestUnreachable(InfrastructureError):
    """The guest does not answer."""

    code, title = "guest_unreachable", "Guest unreachable"


class HostUnreachable(InfrastructureError):
    """The host's daemon does not answer."""

    code, title = "host_unreachable", "Host unreachable"
    default_advice = "See whether 'squib host' runs where SQUIB_HOST_URL says."


class HostFull(InfrastructureError):
    """No room for one more machine here."""

    code, title = "host_full", "Host full"
    default_advice = "Wait for a running task to end, or add a host."


class DriverUnavailable(InfrastructureError):
    """No driver, or not the one named, boots here."""

    code, title = "driver_unavailable", "No usable sandbox driver"
    default_advice = "Run 'squib doctor': it says what to install."


class Unsupported(InfrastructureError):
    """This driver can't do that."""

    code, status, title = "unsupported", 501, "Not supported by this driver"
    default_advice = "Use a driver whose capabilities include it."


class StoreUnavailable(InfrastructureError):
    """The database does not answer, or the disk beside it takes no more."""

    code, title = "store_unavailable", "Database unavailable"


def _tree(root: type[SquibError]) -> dict[str, type[SquibError]]:
    """Kinds by code. A kind that another room derived keeps its parent's code, which stays the parent's."""
    found = {root.code: root}
    for child in root.__subclasses__():
        found = _tree(child) | found
    return found


def from_problem(document: Mapping[str, Any]) -> SquibError:
    """Rebuild the error that a problem document tells of; an unknown code becomes a plain `SquibError`."""
    kind = _tree(SquibError).get(str(document.get("code")), SquibError)
    fields = document.get("fields")
    return kind(
        str(document.get("detail") or document.get("title") or "unknown error"),
        advice=str(document.get("advice") or ""),
        fields=fields if isinstance(fields, dict) else None,
    )
