"""A host with methods of its own, beside those of the protocol: a small shop.

Run it: `python docs/examples/own_methods.py`
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from trunkline import AppServer, Call, Future, Notification, RpcError


@dataclass
class OrderParams:
    """What a client sends with `shop/order`. What does not fit is refused with -32602, and says why."""

    article: str
    count: int = 1


@dataclass
class Order:
    """What it is answered with, as `{"number": …, "article": …, "count": …}`."""

    number: int
    article: str
    count: int


@dataclass
class Shop:
    """What the host is about; the server knows nothing of it."""

    stock: dict[str, int]
    orders: list[Order] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)  # handlers run on several threads

    def order(self, article: str, count: int) -> Order:
        with self.lock:
            if self.stock.get(article, 0) < count:
                raise RpcError(
                    -32010, "out of stock", {"article": article, "left": self.stock.get(article, 0)}
                )
            self.stock[article] -= count
            self.orders.append(Order(len(self.orders) + 1, article, count))
            return self.orders[-1]


def make_server(shop: Shop) -> AppServer:
    """Return a server that answers for a shop."""
    server = AppServer(agent=None)

    # Answers with what it returns. It may block: it runs on a thread of its own kind.
    @server.method("shop/order")
    def order(call: Call, params: OrderParams) -> Order:
        return shop.order(params.article, params.count)

    # Tells the caller how far it is, and answers at the end.
    @server.method("shop/count")
    def count(call: Call) -> int:
        total = 0
        for article, left in sorted(shop.stock.items()):
            call.notify("shop/counted", {"article": article, "left": left})
            total += left
        return total

    # Answers when somebody, anywhere, brings the future its value. No thread waits for it.
    closing: Future[str] = Future()

    @server.method("shop/whenClosed")
    def when_closed(call: Call) -> Future[str]:
        return closing

    @server.method("shop/close")
    def close(call: Call) -> None:
        closing.set(f"closed after {len(shop.orders)} orders")

    return server


def main() -> None:
    """Be a client of it."""
    with make_server(Shop({"bolts": 3, "nuts": 5})) as server, server.connect() as client:
        client.initialize("customer").get(timeout=10)
        closed = client.request("shop/whenClosed")
        print(client.request("shop/order", {"article": "bolts", "count": 2}).get(timeout=10))
        for params in ({"article": "bolts", "count": 2}, {"article": "nuts", "count": "many"}):
            try:
                client.request("shop/order", params).get(timeout=10)
            except RpcError as error:
                print(f"refused: {error}")
        print(client.request("shop/count").get(timeout=10), "left")
        client.request("shop/close").get(timeout=10)
        print(closed.get(timeout=10))
        client.close()
        for delivery in client:
            if isinstance(delivery, Notification) and delivery.method == "shop/counted":
                print(delivery.params["article"], delivery.params["left"])


if __name__ == "__main__":
    main()
