// Notices approvals that were written while the agent runs. Only the agent's machine decides what an approval means,
// and only the agent writes it into the journal.

import type { Agent } from "../agent.ts";
import type { AgentEvent } from "../events.ts";
import type { Home } from "../identity/home.ts";
import type { SiteIdentity } from "../transport/session.ts";
import { listApprovals } from "./approvals.ts";

export type ApprovalWatchPorts = {
  readonly home: Home;
  readonly identity: SiteIdentity;
  readonly agent: Pick<Agent, "post" | "state">;
  readonly tell: (event: AgentEvent) => void;
};

export class ApprovalWatch {
  readonly #ports: ApprovalWatchPorts;
  #damagedTold = 0;

  constructor(ports: ApprovalWatchPorts) {
    this.#ports = ports;
  }

  /** Hand over every approval that the journal does not hold. */
  async look(): Promise<void> {
    const { home, identity, agent, tell } = this.#ports;
    const { approvals, damaged } = await listApprovals(home, identity);
    if (damaged > this.#damagedTold) tell({ kind: "approval.refused", code: "approval.damaged" });
    this.#damagedTold = damaged;
    for (const { envelope, statement } of approvals) {
      const { study, plan, examples } = statement;
      if (agent.state.approvals.get(study)?.plan === plan) continue;
      await agent.post({ kind: "approval", study, plan, examples, envelope });
    }
  }
}
