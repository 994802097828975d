"""One agent, many clients: an app-server and message router built of Pykka actors."""

from trunkline.access import Scope
from trunkline.actor import Dispatcher, PooledActor, handles, post
from trunkline.agents.base import (
    Agent,
    AgentFactory,
    AgentMessage,
    CommandItem,
    Decision,
    FileChangeItem,
    Question,
    Turn,
)
from trunkline.config import Config, Limits
from trunkline.errors import (
    ConfigError,
    Disconnected,
    ListenUrlError,
    Overloaded,
    PromptRefused,
    RpcError,
    ServerStopped,
    StartError,
    TrunklineError,
    TurnFailed,
    TurnInterrupted,
    WouldDeadlock,
)
from trunkline.futures import Future
from trunkline.inprocess.connection import InProcessConnection
from trunkline.inprocess.deliveries import Closed, Delivery, Notification, Prompt
from trunkline.own_methods import Call, Handler
from trunkline.publishing import ThreadHandle
from trunkline.server import AppServer, Listening
from trunkline.stopping import StopReport
from trunkline.transports.auth import AuthOptions
from trunkline.transports.entrances import EntranceOptions
from trunkline.version import VERSION

__version__ = VERSION

__all__ = [
    "Agent",
    "AgentFactory",
    "AgentMessage",
    "AppServer",
    "AuthOptions",
    "Call",
    "Closed",
    "CommandItem",
    "Config",
    "ConfigError",
    "Decision",
    "Delivery",
    "Disconnected",
    "Dispatcher",
    "EntranceOptions",
    "FileChangeItem",
    "Future",
    "Handler",
    "InProcessConnection",
    "Limits",
    "ListenUrlError",
    "Listening",
    "Notification",
    "Overloaded",
    "PooledActor",
    "Prompt",
    "PromptRefused",
    "Question",
    "RpcError",
    "Scope",
    "ServerStopped",
    "StartError",
    "StopReport",
    "ThreadHandle",
    "TrunklineError",
    "Turn",
    "TurnFailed",
    "TurnInterrupted",
    "WouldDeadlock",
    "__version__",
    "handles",
    "post",
]
