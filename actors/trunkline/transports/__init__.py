"""How clients reach the server: WebSocket, stdio, in process. No JSON-RPC here."""
