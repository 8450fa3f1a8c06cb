"""The public HTTP API: authentication, tasks, events, results, and the way into a task's live sandbox.

Does: check who asks and what for, name the field where input is wrong, hand over to the store and the queue, stream
events, relay terminals and files of a sandbox through `squib.link`. Must not: run anything of a task, decide what
happens to one (the scheduler does), hold state that another API process would need, or show a stranger that a task
exists. Imports contracts, store, queue and link; the composition root (`cli`) alone imports it.
"""

from squib.api.app import create_app
from squib.api.config import ApiConfig
from squib.api.server import server_config

__all__ = ["ApiConfig", "create_app", "server_config"]
