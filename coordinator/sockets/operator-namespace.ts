// What the operator watches live: socket.io namespace `/operator`. Nothing here is a fact; facts are in the log.

import type { OperatorEvent } from "@consilium/shared/protocol/messages.ts";
import type { Namespace, Server } from "socket.io";
import { tokenMatcher } from "../plugins/access.ts";

export class OperatorNamespace {
  readonly #namespace: Namespace;

  constructor(server: Server, operatorToken: string) {
    const isOperator = tokenMatcher(operatorToken);
    this.#namespace = server.of("/operator");
    this.#namespace.use((socket, next) => {
      const { token } = socket.handshake.auth as { token?: unknown }; // Unchecked input: used only if it is text.
      next(typeof token === "string" && isOperator(token) ? undefined : new Error("auth.refused"));
    });
  }

  publish(event: OperatorEvent): void {
    // Progress may be dropped where a line is slow; what happened may not.
    const channel = event.kind === "progress" ? this.#namespace.volatile : this.#namespace;
    channel.emit("event", event);
  }
}
