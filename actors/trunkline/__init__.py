"""One agent, many clients: an app-server and message router built of Pykka actors."""
