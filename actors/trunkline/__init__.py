"""One agent, many clients: an app-server and message router built of Pykka actors."""

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
    RpcError,
    ServerStopped,
    StartError,
    TrunklineError,
    TurnFailed,
    TurnInterrupted,
)
from trunkline.futures import Future
from trunkline.inprocess.connection import InProcessConnection
from trunkline.inprocess.deliveries import Closed, Delivery, Notification, Prompt
from trunkline.server import AppServer, Listening
from trunkline.version import VERSION

__version__ = VERSION

__all__ = [
    "Agent",
    "AgentFactory",
    "AgentMessage",
    "AppServer",
    "Closed",
    "CommandItem",
    "Config",
    "ConfigError",
    "Decision",
    "Delivery",
    "Disconnected",
    "FileChangeItem",
    "Future",
    "InProcessConnection",
    "Limits",
    "ListenUrlError",
    "Listening",
    "Notification",
    "Prompt",
    "Question",
    "RpcError",
    "ServerStopped",
    "StartError",
    "TrunklineError",
    "Turn",
    "TurnFailed",
    "TurnInterrupted",
    "__version__",
]
