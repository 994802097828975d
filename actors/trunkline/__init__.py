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
    ListenUrlError,
    RpcError,
    ServerStopped,
    StartError,
    TrunklineError,
    TurnFailed,
    TurnInterrupted,
)
from trunkline.server import AppServer, Listening
from trunkline.version import VERSION

__version__ = VERSION

__all__ = [
    "Agent",
    "AgentFactory",
    "AgentMessage",
    "AppServer",
    "CommandItem",
    "Config",
    "ConfigError",
    "Decision",
    "FileChangeItem",
    "Limits",
    "ListenUrlError",
    "Listening",
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
