// What every command of the operator gets: the connection, made when first used, and where to print.

import type { OperatorClient } from "./operator-client.ts";

export type CommandContext = {
  readonly client: () => OperatorClient;
  readonly print: (line: string) => void;
  /** One JSON document instead of text for people. */
  readonly json: boolean;
};
